locals {
  # SQS keeps what it accepted so long and no longer. Dead letters keep the time
  # at which they were first sent, so theirs is longer.
  job_days         = 10
  dead_letter_days = 14

  # A name per model, of the letters that a queue's name may have.
  queue_models = { for alias in keys(local.models) : replace(alias, "/[^A-Za-z0-9_-]/", "-") => alias... }
  queues = {
    for key in var.queues == null ? keys(local.queue_models) : keys(var.queues) :
    key => { priority = try(var.queues[key].priority, 100) }
  }
  # In order of priority, and of their names where that is equal.
  queue_urls = [
    for rank in sort([for key, q in local.queues : format("%06d/%s", q.priority, key)]) :
    aws_sqs_queue.jobs[split("/", rank)[1]].url
  ]

  # By name, so that a queue's policy is part of it: it is never without.
  job_queue_names  = { for key in keys(local.queues) : key => "${var.name}-jobs-${key}" }
  dead_letter_name = "${var.name}-dead-letters"
  results_name     = "${var.name}-results"
  queue_arns = {
    for name in concat(values(local.job_queue_names), [local.dead_letter_name, local.results_name]) :
    name => "arn:${local.partition}:sqs:${local.region}:${local.account}:${name}"
  }
  tls_only = { for name, arn in local.queue_arns : name => jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TLSOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  }) }
}

resource "aws_sqs_queue" "jobs" {
  for_each = local.queues

  name                       = local.job_queue_names[each.key]
  message_retention_seconds  = local.job_days * 86400
  max_message_size           = 1048576
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 120 # for those who receive by hand; the drainer asks for its own

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  policy                  = local.tls_only[local.job_queue_names[each.key]]

  # A net, far above what the drainer lets come to pass: it buries by itself, with
  # the reason.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 1000
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                       = local.dead_letter_name
  message_retention_seconds  = local.dead_letter_days * 86400
  max_message_size           = 1048576
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 120

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  policy                  = local.tls_only[local.dead_letter_name]

  redrive_allow_policy = jsonencode(merge(
    { redrivePermission = length(local.queues) > 10 ? "allowAll" : "byQueue" },
    # SQS takes ten names; with more, every queue of the account may.
    { for arns in [[for name in values(local.job_queue_names) : local.queue_arns[name]]] : "sourceQueueArns" => arns if length(arns) <= 10 },
  ))
}

resource "aws_sqs_queue" "results" {
  count = var.results_queue ? 1 : 0

  name                       = local.results_name
  message_retention_seconds  = local.dead_letter_days * 86400
  max_message_size           = 1048576
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 120

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  policy                  = local.tls_only[local.results_name]
}
