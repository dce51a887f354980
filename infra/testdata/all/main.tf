# Everything that the module can be told, at once: for the tests.

variable "image" {
  type = string
}

provider "aws" {
  region = "us-east-1"
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

  name                 = "all"
  image                = var.image
  models               = file("${path.module}/models.json")
  application_profiles = { "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123" = "us.amazon.nova-lite-v1:0" }
  queues               = { bulk = { priority = 200 }, urgent = { priority = 1 } }
  results_queue        = true
  kms_key_arn          = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  vpc_id               = data.aws_vpc.default.id
  subnet_ids           = data.aws_subnets.default.ids
  tasks                = 3
  scale_to_zero        = true
  spot                 = true
  architecture         = "X86_64"
  environment          = { SLUICE_HOLD = "0s", SLUICE_ADMIN_ADDR = "0.0.0.0:8080" }
  oldest_job_age       = "90m"
  alarm_topic_arn      = "arn:aws:sns:us-east-1:123456789012:alarms"
}

# As in docs/operations.md.
resource "aws_vpc_security_group_ingress_rule" "admin" {
  security_group_id = module.sluice.security_group_id
  description       = "The admin listener, from inside the VPC"
  ip_protocol       = "tcp"
  from_port         = 8080
  to_port           = 8080
  cidr_ipv4         = data.aws_vpc.default.cidr_block
}

output "environment" {
  value = module.sluice.environment
}
