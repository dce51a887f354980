# A drainer in the default VPC, with a public address and nothing that may come
# in. Put the models and their quotas into models.json.

variable "image" {
  type        = string
  description = "The drainer's image, as pushed: ACCOUNT.dkr.ecr.REGION.amazonaws.com/sluice:TAG."
}

variable "region" {
  type        = string
  default     = "us-east-1"
  description = "The Region of everything that is made here."
}

variable "alarm_topic_arn" {
  type        = string
  default     = null
  description = "The SNS topic that hears of alarms."
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { Application = "sluice" }
  }
}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

module "sluice" {
  source = "../.."

  image           = var.image
  models          = file("${path.module}/models.json")
  vpc_id          = data.aws_vpc.default.id
  subnet_ids      = data.aws_subnets.default.ids
  alarm_topic_arn = var.alarm_topic_arn
}

output "enqueue_command" {
  description = "Puts the jobs of a file on the first queue."
  value       = module.sluice.enqueue_command
}

output "sluice" {
  description = "All the rest: queues, results, policies to attach, dashboard, log group."
  value       = module.sluice
}
