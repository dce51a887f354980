# What rings, with short periods: for the test that makes it ring.

provider "aws" {
  region = "us-east-1"
}

module "sluice" {
  source = "../.."

  name       = "rings"
  image      = "sluice"
  models     = jsonencode({ nova = { routes = [{ model_id = "amazon.nova-lite-v1:0", region = "us-east-1", rpm = 1200 }] } })
  vpc_id     = "vpc-00000000"
  subnet_ids = ["subnet-00000000"]
  period     = 10
}

output "environment" {
  value = module.sluice.environment
}
