import subprocess, sys, time, signal, os
P='/work/wt-vmrev/mitigations/library/block-mkdir.json'
code='from evaluator.entry import main; main()'
def qemus(): return {p for p in os.listdir('/proc') if p.isdigit() and b'virtserialport' in (open(f'/proc/{p}/cmdline','rb').read() if os.path.exists(f'/proc/{p}/cmdline') else b'') and os.path.exists(f'/proc/{p}') and b'VMREV' in open(f'/proc/{p}/environ','rb').read()}
env={**os.environ,'VMREV':'1'}
for d in [0.3,1,2,4,8,14]:
    p=subprocess.Popen([sys.executable,'-c',code,'evaluate',P,'--runtime','vm'],stdout=subprocess.PIPE,stderr=subprocess.PIPE,env=env,preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    time.sleep(d); t=time.time(); p.send_signal(signal.SIGINT); o,e=p.communicate(timeout=60)
    print(d,'exit',p.returncode,'%.1f s'%(time.time()-t),len(o),e.decode()[:200].replace('\n',' / '),'left',qemus(), flush=True)
# during a download
env['XDG_CACHE_HOME']='/tmp/vmrev/cc'
for d in [1.0,2.0,4.0]:
    p=subprocess.Popen([sys.executable,'-c',code,'evaluate',P,'--runtime','vm','--family','create-directory'],stdout=subprocess.PIPE,stderr=subprocess.PIPE,env=env,start_new_session=True,preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    time.sleep(d); os.killpg(p.pid,signal.SIGINT); o,e=p.communicate(timeout=60)
    print('download',d,'exit',p.returncode,e.decode()[:300].replace('\n',' / '),'left',qemus(), [x for x in os.listdir('/tmp/vmrev/cc/sidestep/vm')] if os.path.isdir('/tmp/vmrev/cc/sidestep/vm') else None, flush=True)
