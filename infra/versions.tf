# One deployment of Sluice: queues, bucket, roles, service, alarms, dashboard.
# README.md says what each part is for; a file holds one duty.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.8" # the first that lets a queue take messages of 1 MiB
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
}
