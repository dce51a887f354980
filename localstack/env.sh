# The variables with which producer and drainer find LocalStack and the Bedrock
# simulator, for the shell that reads them from the repository's top:
#
#   . localstack/env.sh
#
# Every other emulator, and AWS itself, is the same variables with other values.

# A profile, a session or a token of the shell's would win over what follows.
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_BEARER_TOKEN_BEDROCK
export AWS_REGION=us-east-1
export AWS_DEFAULT_REGION=us-east-1 # what the AWS CLI of old reads
export AWS_ACCESS_KEY_ID=test
export AWS_SECRET_ACCESS_KEY=test
export AWS_ENDPOINT_URL=http://127.0.0.1:${LOCALSTACK_PORT:-4566}
export AWS_ENDPOINT_URL_BEDROCK_RUNTIME=http://127.0.0.1:${BEDROCKSIM_PORT:-4567}

export SLUICE_QUEUE_URLS=$AWS_ENDPOINT_URL/000000000000/sluice-jobs
export SLUICE_DLQ_URL=$AWS_ENDPOINT_URL/000000000000/sluice-dead-letters
export SLUICE_RESULTS_QUEUE_URL=$AWS_ENDPOINT_URL/000000000000/sluice-results
export SLUICE_RESULTS_S3=s3://sluice/results/
export SLUICE_PAYLOADS_S3=s3://sluice/payloads/
export SLUICE_MODELS_FILE=$PWD/localstack/models.json
