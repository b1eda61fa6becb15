#!/bin/bash
# One job on a running Ray cluster; again, to go on: ray.sh. Every node has lavit-tokenizer[ray] and sees /shared.
HEAD=${1:-http://127.0.0.1:8265}

# A submitted job finds its cluster in RAY_ADDRESS; outside of one, give --ray-address HOST:6379.
ray job submit --address "$HEAD" -- \
    lavit tokenize-images /shared/photos --model /shared/model --out /shared/tokens --engine ray --workers 7
