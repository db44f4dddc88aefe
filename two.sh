cd /tmp/review1; . ./env.sh
P=${1:-23451}
for i in 0 1; do
JAX_PLATFORMS=cpu timeout 100 $V train --config=configs/digits.py --workdir=/tmp/review1/mh --config.total_steps=20000 --config.log_every=20 --coordinator_address=localhost:$P --num_processes=2 --process_id=$i > /tmp/review1/mh$i.log 2>&1 &
echo $! > /tmp/review1/mh$i.pid
done
wait
echo done
