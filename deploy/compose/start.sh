#!/bin/sh
# Creates the demo's task and starts it, unless it is there already.
set -eu
export REDIS_FERRY_API_TOKEN="$DEMO_TOKEN"
unset DEMO_TOKEN
if redis-ferry task list | grep -q demo-task; then
  exit 0
fi
task=$(redis-ferry task create demo-task)
redis-ferry task configure "$task" source:6379 target-1:6379,target-2:6379,target-3:6379 \
  --bandwidth-limit-mb "$BANDWIDTH_LIMIT_MB"
echo "$task"
