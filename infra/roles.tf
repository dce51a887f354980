# Who may do what. A test records what the commands do and holds these policies
# to it: what is not allowed is a defect, and so is what is never used.
#
# ARNs are made of names and not taken from the resources, so that a plan shows the
# policies whole, before anything is made.

locals {
  objects  = "${local.bucket_arn}/"
  results  = "${local.objects}${local.results_prefix}*"
  payloads = "${local.objects}${local.payloads_prefix}*"
  manifest = "${local.results_prefix}*/_manifest/*"

  job_queue_arns    = [for name in values(local.job_queue_names) : local.queue_arns[name]]
  dead_letter_arn   = local.queue_arns[local.dead_letter_name]
  results_queue_arn = var.results_queue ? [local.queue_arns[local.results_name]] : [] # or none

  # The rights on a customer key, each through the services that use it for us.
  key_use = {
    for purpose, actions in { read = ["kms:Decrypt"], write = ["kms:Decrypt", "kms:GenerateDataKey"] } :
    purpose => [for key in compact([var.kms_key_arn]) : {
      Sid      = "Key"
      Effect   = "Allow"
      Action   = actions
      Resource = [key]
      Condition = { StringEquals = { "kms:ViaService" = [
        for service in ["s3", "sqs"] : "${service}.${local.region}.${data.aws_partition.current.dns_suffix}"
      ] } }
    }]
  }

  task_statements = concat([
    {
      Sid    = "Jobs"
      Effect = "Allow"
      # SendMessage is for renewals.
      Action   = ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage", "sqs:GetQueueAttributes"]
      Resource = local.job_queue_arns
    },
    {
      Sid      = "Outlets"
      Effect   = "Allow"
      Action   = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
      Resource = concat([local.dead_letter_arn], local.results_queue_arn)
    },
    {
      Sid    = "Objects"
      Effect = "Allow"
      # Payloads are written where a renewal or a burial leaves a body no room.
      Action   = ["s3:GetObject", "s3:PutObject"]
      Resource = [local.results, local.payloads]
    },
    {
      # Without it, the HEAD of an absent result is a 403 and not a 404. A HEAD
      # has no prefix that a condition could hold.
      Sid      = "Absence"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = [local.bucket_arn]
    },
    {
      Sid      = "Bedrock"
      Effect   = "Allow"
      Action   = ["bedrock:InvokeModel"] # Converse too
      Resource = distinct([for t in local.targets : t.arn])
    },
    {
      Sid       = "Metrics"
      Effect    = "Allow"
      Action    = ["cloudwatch:PutMetricData"]
      Resource  = ["*"] # metrics have no ARN
      Condition = { StringEquals = { "cloudwatch:namespace" = local.namespace } }
    },
    ], [for arns in [local.profiled_models] : {
      Sid      = "BehindProfiles"
      Effect   = "Allow"
      Action   = ["bedrock:InvokeModel"]
      Resource = arns
      # The models themselves stay closed but by way of the profiles.
      Condition = { StringEquals = { "bedrock:InferenceProfileArn" = distinct([for p in local.profiles : p.arn]) } }
    } if length(arns) > 0],
    local.key_use.write,
  )

  # What others attach to their roles. None of them may touch Bedrock.
  policies = {
    producer = {
      description = "Enqueue jobs"
      statements = concat([
        {
          Sid      = "Jobs"
          Effect   = "Allow"
          Action   = ["sqs:SendMessage"]
          Resource = local.job_queue_arns
        },
        {
          Sid      = "Payloads"
          Effect   = "Allow"
          Action   = ["s3:PutObject"]
          Resource = [local.payloads]
        },
        {
          Sid      = "Manifest"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:PutObject"]
          Resource = ["${local.objects}${local.manifest}"]
        },
        {
          Sid       = "ManifestList"
          Effect    = "Allow"
          Action    = ["s3:ListBucket"]
          Resource  = [local.bucket_arn]
          Condition = { StringLike = { "s3:prefix" = local.manifest } }
        },
      ], local.key_use.write)
    }

    reader = {
      description = "Read results"
      statements = concat([
        {
          Sid      = "Results"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = [local.results]
        },
        {
          # The whole bucket, so that "not there yet" is a 404.
          Sid      = "ResultsList"
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = [local.bucket_arn]
        },
        ], [for arn in local.results_queue_arn : {
          Sid      = "Copies"
          Effect   = "Allow"
          Action   = ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
          Resource = [arn]
        }],
        local.key_use.read,
      )
    }

    operator = {
      description = "Look at dead letters and redrive them"
      statements = concat([
        {
          Sid    = "DeadLetters"
          Effect = "Allow"
          Action = [
            "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes",
            "sqs:StartMessageMoveTask", "sqs:ListMessageMoveTasks", "sqs:CancelMessageMoveTask",
          ]
          Resource = [local.dead_letter_arn]
        },
        {
          Sid      = "Redrive"
          Effect   = "Allow"
          Action   = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
          Resource = local.job_queue_arns
        },
        {
          Sid      = "Payloads"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = [local.payloads]
        },
      ], local.key_use.write)
    }
  }

  ecs_tasks_trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      # Only for tasks of this account: nobody else's may be the service's deputy.
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-task-${local.region}"
  description        = "Sluice: what the drainer does"
  assume_role_policy = local.ecs_tasks_trust
}

resource "aws_iam_role_policy" "task" {
  name   = "drain"
  role   = aws_iam_role.task.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.task_statements })

  lifecycle {
    precondition {
      condition     = length(local.unknown_profiles) == 0
      error_message = "application_profiles must tell what ${join(", ", local.unknown_profiles)} wraps: the right to call a profile takes the right to call its model."
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution-${local.region}"
  description        = "Sluice: what ECS does to start the drainer"
  assume_role_policy = local.ecs_tasks_trust
}

resource "aws_iam_role_policy" "execution" {
  name = "start"
  role = aws_iam_role.execution.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "Logs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["arn:${local.partition}:logs:${local.region}:${local.account}:log-group:${local.log_group}:*"]
      },
      ], [for image in [local.ecr_image] : {
        Sid      = "Image"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = ["arn:${local.partition}:ecr:${image[1]}:${image[0]}:repository/${image[2]}"]
        } if image != null], [for image in [local.ecr_image] : {
        Sid      = "ImageToken"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = ["*"] # it has no resource
      } if image != null],
    )
  })
}

resource "aws_iam_policy" "apps" {
  for_each = local.policies

  name        = "${var.name}-${each.key}-${local.region}"
  description = "Sluice: ${each.value.description}"
  policy      = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}
