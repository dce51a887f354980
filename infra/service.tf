locals {
  # Account, Region and repository of an image in ECR; null where it is elsewhere.
  ecr_image = try(regex("^([0-9]{12})\\.dkr\\.ecr\\.([a-z0-9-]+)\\.[^/]+/([^:@]+)", var.image), null)

  log_group = "/sluice/${var.name}"

  # The drainer's environment: what the module knows. "drainer config" shows the
  # rest, and docs/configuration.md says what each means.
  derived = merge({
    AWS_REGION               = local.region
    SLUICE_NAME              = var.name
    SLUICE_QUEUE_URLS        = join(",", local.queue_urls)
    SLUICE_DLQ_URL           = aws_sqs_queue.dead_letters.url
    SLUICE_RESULTS_S3        = "s3://${local.bucket}/${local.results_prefix}"
    SLUICE_PAYLOADS_S3       = "s3://${local.bucket}/${local.payloads_prefix}"
    SLUICE_MODELS            = jsonencode(local.models)
    SLUICE_QUOTA_FRACTION    = format("%.6g", 1 / max(var.tasks, 1))
    SLUICE_METRICS_NAMESPACE = local.namespace
    SLUICE_METRICS_PERIOD    = "${var.period}s"
    SLUICE_GRACE             = "100s" # ends before the kill, 120 s after the stop signal
  }, { for q in aws_sqs_queue.results : "SLUICE_RESULTS_QUEUE_URL" => q.url })

  environment = merge(var.environment, local.derived)

  not_yours = sort(concat(keys(local.derived), ["SLUICE_MODELS_FILE"], var.results_queue ? [] : ["SLUICE_RESULTS_QUEUE_URL"]))
}

resource "aws_ecs_cluster" "sluice" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "disabled" # paid for, and the drainer's own metrics say more
  }
}

resource "aws_ecs_cluster_capacity_providers" "fargate" {
  cluster_name       = aws_ecs_cluster.sluice.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_cloudwatch_log_group" "drainer" {
  name              = local.log_group
  retention_in_days = var.log_days
}

resource "aws_ecs_task_definition" "drainer" {
  family                   = "${var.name}-drainer"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  container_definitions = jsonencode([{
    name      = "drainer"
    image     = var.image
    essential = true
    memory    = var.memory # the limit that the drainer sees and divides
    user      = "65532:65532"

    readonlyRootFilesystem = true
    stopTimeout            = 120 # Fargate's longest; what is not answered by then is paid for twice

    environment = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]

    healthCheck = {
      command     = ["CMD", "/drainer", "healthcheck"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 10
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.drainer.name
        "awslogs-region"        = local.region
        "awslogs-stream-prefix" = "drainer"
      }
    }
  }])

  lifecycle {
    precondition {
      condition     = length(setintersection(keys(var.environment), local.not_yours)) == 0
      error_message = "environment can't hold ${join(", ", local.not_yours)}: the module sets them, or they contradict what it sets."
    }
    precondition {
      condition     = (var.memory % 1024 == 0 || var.memory == 512) && var.memory >= 2 * var.cpu && var.memory <= 8 * var.cpu
      error_message = "Fargate has no task of ${var.cpu} CPU units with ${var.memory} MiB: memory must be 2 to 8 times cpu, in steps of 1024, or 512 with the smallest cpu."
    }
    precondition {
      condition     = !var.private || alltrue([for r in local.routes : r.region == local.region])
      error_message = "private: a route in another Region can't be called. The interface endpoint of Bedrock answers for ${local.region} only, and there is no other way out. Use a cross-Region inference profile of ${local.region}, or subnets with a NAT gateway."
    }
  }
}

resource "aws_ecs_service" "drainer" {
  name            = "${var.name}-drainer"
  cluster         = aws_ecs_cluster.sluice.id
  task_definition = aws_ecs_task_definition.drainer.arn
  desired_count   = var.tasks
  propagate_tags  = "SERVICE"

  # The old task ends before the new one starts: two at once would use the quota
  # twice. What is queued waits for the half minute.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  availability_zone_rebalancing      = "DISABLED" # it would take two at once

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  launch_type = var.spot ? null : "FARGATE"

  dynamic "capacity_provider_strategy" {
    for_each = var.spot ? ["FARGATE_SPOT"] : []

    content {
      capacity_provider = capacity_provider_strategy.value
      weight            = 1
    }
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.drainer.id]
    assign_public_ip = !var.private
  }

  depends_on = [
    aws_ecs_cluster_capacity_providers.fargate,
    # A drainer that starts without its rights ends with the reason.
    aws_iam_role_policy.task,
    aws_iam_role_policy.execution,
    aws_vpc_endpoint.interface,
    aws_vpc_endpoint.s3,
  ]
}

# Scale to zero. A backlog says that a drainer is needed, never that several are:
# the quota is the limit.

locals {
  backlog_metrics = ["ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]

  backlog = flatten([for i, key in keys(local.queues) : [
    for j, name in local.backlog_metrics : { id = "m${i}${j}", name = name, queue = key }
  ]])

  scaling = { for key, way in {
    start = { tasks = var.tasks, operator = "GreaterThanThreshold", minutes = 1 }
    stop  = { tasks = 0, operator = "LessThanOrEqualToThreshold", minutes = 15 }
  } : key => way if var.scale_to_zero }
}

resource "aws_appautoscaling_target" "drainer" {
  count = var.scale_to_zero ? 1 : 0

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.sluice.name}/${aws_ecs_service.drainer.name}"
  min_capacity       = 0
  max_capacity       = var.tasks

  lifecycle {
    precondition {
      condition     = var.tasks > 0
      error_message = "scale_to_zero needs tasks: the number to scale to."
    }
    precondition {
      condition     = length(local.queues) <= 3
      error_message = "scale_to_zero takes 3 queues at most: it adds up three metrics of each, and CloudWatch takes 10 in an alarm."
    }
  }
}

resource "aws_appautoscaling_policy" "drainer" {
  for_each = local.scaling

  name               = "${var.name}-${each.key}"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.drainer[0].service_namespace
  scalable_dimension = aws_appautoscaling_target.drainer[0].scalable_dimension
  resource_id        = aws_appautoscaling_target.drainer[0].resource_id

  step_scaling_policy_configuration {
    adjustment_type = "ExactCapacity"
    cooldown        = 60

    step_adjustment {
      metric_interval_lower_bound = each.key == "start" ? 0 : null
      metric_interval_upper_bound = each.key == "stop" ? 0 : null
      scaling_adjustment          = each.value.tasks
    }
  }
}

# Not alarms for people: these move the service, and tell nobody.
resource "aws_cloudwatch_metric_alarm" "scaling" {
  for_each = local.scaling

  alarm_name          = "${var.name}-scale-${each.key}"
  alarm_description   = each.key == "start" ? "Jobs wait: the service starts." : "No job, neither visible nor in flight nor delayed: the service stops."
  comparison_operator = each.value.operator
  threshold           = 0
  evaluation_periods  = each.value.minutes
  treat_missing_data  = "missing" # an idle queue publishes nothing: stay as it is
  alarm_actions       = [aws_appautoscaling_policy.drainer[each.key].arn]

  # Without FILL: the newest minutes, which SQS has not told of yet, would count as 0
  # and the service would never start. In a sum, a queue that tells nothing is 0.
  metric_query {
    id          = "backlog"
    expression  = join("+", local.backlog[*].id)
    label       = "Jobs"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.backlog

    content {
      id = metric_query.value.id

      metric {
        namespace   = "AWS/SQS"
        metric_name = metric_query.value.name
        period      = 60
        stat        = "Maximum"
        dimensions  = { QueueName = local.job_queue_names[metric_query.value.queue] }
      }
    }
  }
}
