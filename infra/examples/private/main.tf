# A drainer in a network without a way out: no NAT gateway, no public address.
# It reaches AWS through VPC endpoints, and Bedrock in this Region only.

variable "image" {
  type        = string
  description = "The drainer's image, in ECR of this Region: there is no way to another one."
}

variable "region" {
  type        = string
  default     = "eu-central-1"
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

data "aws_availability_zones" "available" {
  state = "available"
}

resource "aws_vpc" "sluice" {
  cidr_block           = "10.71.0.0/24"
  enable_dns_support   = true
  enable_dns_hostnames = true # for the endpoints' names
  tags                 = { Name = "sluice" }
}

# Two, for the loss of one zone. Each interface endpoint is paid for in each.
resource "aws_subnet" "private" {
  count = 2

  vpc_id            = aws_vpc.sluice.id
  availability_zone = data.aws_availability_zones.available.names[count.index]
  cidr_block        = cidrsubnet(aws_vpc.sluice.cidr_block, 2, count.index)
  tags              = { Name = "sluice-private-${count.index}" }
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.sluice.id
  tags   = { Name = "sluice-private" }
}

resource "aws_route_table_association" "private" {
  count = length(aws_subnet.private)

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private.id
}

module "sluice" {
  source = "../.."

  image           = var.image
  models          = file("${path.module}/models.json")
  vpc_id          = aws_vpc.sluice.id
  subnet_ids      = aws_subnet.private[*].id
  private         = true
  route_table_ids = [aws_route_table.private.id]
  alarm_topic_arn = var.alarm_topic_arn

  # Two drainers, each with half of the quota; copies of results for an app.
  tasks         = 2
  results_queue = true
}

output "enqueue_command" {
  description = "Puts the jobs of a file on the first queue."
  value       = module.sluice.enqueue_command
}

output "sluice" {
  description = "All the rest: queues, results, policies to attach, dashboard, log group."
  value       = module.sluice
}
