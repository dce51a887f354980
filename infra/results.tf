# The bucket: results, and the payloads of jobs too large for a message.

locals {
  bucket          = "${var.name}-${local.account}-${local.region}"
  bucket_arn      = "arn:${local.partition}:s3:::${local.bucket}"
  results_prefix  = "results/"
  payloads_prefix = "payloads/"

  # A dead letter can be redriven on its last day, and then lives through the job
  # queue once more: its payload must still be there.
  payload_days = local.job_days + local.dead_letter_days + local.job_days
}

# Terraform does not delete it while there is something in it: results are what
# all the rest is for.
resource "aws_s3_bucket" "results" {
  bucket        = local.bucket
  force_destroy = false
}

resource "aws_s3_bucket_public_access_block" "results" {
  bucket                  = aws_s3_bucket.results.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "results" {
  bucket = aws_s3_bucket.results.id

  rule {
    object_ownership = "BucketOwnerEnforced" # no ACLs
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "results" {
  bucket = aws_s3_bucket.results.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null # one call to KMS for many objects

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_policy" "results" {
  bucket     = aws_s3_bucket.results.id
  depends_on = [aws_s3_bucket_public_access_block.results] # S3 refuses both at once

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TLSOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_s3_bucket_lifecycle_configuration" "results" {
  bucket = aws_s3_bucket.results.id

  rule {
    id     = "results"
    status = "Enabled"
    filter {
      prefix = local.results_prefix
    }
    expiration {
      days = var.results_days
    }
  }

  rule {
    id     = "payloads"
    status = "Enabled"
    filter {
      prefix = local.payloads_prefix
    }
    expiration {
      days = local.payload_days
    }
  }
}
