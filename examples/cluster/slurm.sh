#!/bin/bash
# An array of 64 tasks that fill one token directory: sbatch slurm.sh. Again, for the tasks that failed: sbatch --array=3,17 slurm.sh
#SBATCH --job-name=lavit-tokenize
#SBATCH --array=0-63
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue

DATA=/shared/photos        # folders that every node sees at the same path
MODEL=/shared/model
TOKENS=/shared/tokens
NUM_TASKS=64               # the whole array, also when a part of it is started again

srun lavit tokenize-images "$DATA" --model "$MODEL" --out "$TOKENS" \
    --num-tasks "$NUM_TASKS" --task-id "$SLURM_ARRAY_TASK_ID" --workers "$((SLURM_CPUS_PER_TASK - 1))"
code=$?
# 75: stopped a minute before the time limit or by pre-emption, state saved.
if [ "$code" -eq 75 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
