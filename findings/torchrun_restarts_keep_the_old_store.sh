#!/bin/sh
# torchrun of torch 2.13.0 (rendezvous c10d, --max-restarts): where a worker dies and the agent begins anew, the new
# workers get the same store as the old ones, at the same port, with all that those had written; the source says that a
# new store is made for each retry and leaves the prefix of an attempt out therefore. init_process_group writes each
# rank's address there under the same name again, so that a rank which reads its peer's before the peer has written
# connects to a process that is gone: two agents of one rank each, one killed, began anew two or three times with
# "Connection refused" before they trained, or had not begun after two minutes. TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, or a store of
# one's own, helps.
# Seen: ['beginning 0: there False', 'beginning 1: there True']. Exits 0 while this is so, 1 once it is otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "numpy<2.5"
cat > "$folder/worker.py" <<'PY'
import os
import sys

import torch.distributed as dist

store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), 1, is_master=False)
beginning = os.environ["TORCHELASTIC_RESTART_COUNT"]
print(f"beginning {beginning}: there {store.check(['written in beginning 0'])}", flush=True)
if beginning == "0":
    store.set("written in beginning 0", "x")
    sys.exit(1)  # as a worker that dies
PY
seen=$(cd "$folder" && OMP_NUM_THREADS=1 timeout 120 "$folder/venv/bin/python" -m torch.distributed.run --nnodes 1 \
  --nproc-per-node 1 --max-restarts 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:0 worker.py 2>/dev/null)
echo "$seen"
test "$seen" = "beginning 0: there False
beginning 1: there True"
