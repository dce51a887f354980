# The tasks call out by HTTPS and are called by nobody.

resource "aws_security_group" "drainer" {
  name        = "${var.name}-drainer"
  description = "Sluice drainer: HTTPS out, nothing in"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.drainer.id
  description       = "AWS, by HTTPS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

# Without a way out, each service needs a door of its own.

locals {
  endpoints = var.private ? toset(["sqs", "bedrock-runtime", "monitoring", "logs", "ecr.api", "ecr.dkr", "sts"]) : toset([])
}

resource "aws_security_group" "endpoints" {
  count = var.private ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "Sluice: the VPC endpoints, for the drainer only"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = var.private ? 1 : 0

  security_group_id            = aws_security_group.endpoints[0].id
  referenced_security_group_id = aws_security_group.drainer.id
  description                  = "The drainer, by HTTPS"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.endpoints

  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = var.subnet_ids
  security_group_ids  = aws_security_group.endpoints[*].id
  tags                = { Name = "${var.name}-${each.key}" }
}

# The layers of an image lie in S3 too.
resource "aws_vpc_endpoint" "s3" {
  count = var.private ? 1 : 0

  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_table_ids
  tags              = { Name = "${var.name}-s3" }

  lifecycle {
    precondition {
      condition     = length(var.route_table_ids) > 0
      error_message = "private needs route_table_ids: without a route to the gateway endpoint S3 can't be reached."
    }
  }
}
