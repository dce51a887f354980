# One page that answers, from the top: is it well, is the quota the limit, how
# fast does it go, what comes out, how long does it take.

locals {
  # Lines of a widget: metrics by name, as CloudWatch writes them.
  per_model = {
    for name, m in local.metrics : name => [
      for alias in keys(local.models) : [m.namespace, name, "Service", var.name, "Model", alias]
    ] if contains(m.dimensions, "Model")
  }
  per_service = {
    for name, m in local.metrics : name => [[m.namespace, name, "Service", var.name]] if m.dimensions == ["Service"]
  }

  # A model's quotas per minute, of all its routes that have one.
  quotas = { for alias, m in local.models : alias => {
    tpm = sum(concat([0], [for r in m.routes : try(r.tpm, 0)]))
    rpm = sum(concat([0], [for r in m.routes : try(r.rpm, 0)]))
  } }

  widgets = concat(
    [
      { title = "Quota in use (%)", stat = "Average", lines = local.per_model.QuotaUse, level = { label = "quota", value = 100 } },
      { title = "Seconds of each minute in which the quota was the limit", stat = "Sum", lines = local.per_model.QuotaBoundSeconds, level = { label = "all the time", value = 60 * max(var.tasks, 1) } },
    ],
    [for alias, q in local.quotas : {
      title = "${alias}: tokens a minute and the quota"
      stat  = "Sum"
      lines = [for line in local.per_model.QuotaTokens : line if line[5] == alias]
      level = { label = "quota", value = q.tpm }
    } if q.tpm > 0],
    [for alias, q in local.quotas : {
      title = "${alias}: requests a minute and the quota"
      stat  = "Sum"
      lines = [for line in local.per_model.Invocations : line if line[5] == alias]
      level = { label = "quota", value = q.rpm }
    } if q.rpm > 0],
    [
      { title = "Pace: answers a minute", stat = "Sum", lines = local.per_model.Invocations },
      { title = "Time until the backlog is drained (s)", stat = "Maximum", lines = concat(local.per_service.DrainSeconds, local.per_service.OldestJobAge) },
      { title = "Outcomes: succeeded, failed, buried", stat = "Sum", lines = concat(local.per_model.Succeeded, local.per_model.Failed, local.per_service.Buried) },
      { title = "Refused: 429s, and capacity errors", stat = "Sum", lines = concat(local.per_model.Throttles, local.per_model.CapacityErrors) },
      { title = "Routes that are closed: broken, parked or stopped", stat = "Maximum", lines = local.per_model.Closed },
      { title = "Jobs in the queues", stat = "Maximum", lines = concat([
        for q in values(local.job_queue_names) : ["AWS/SQS", local.metrics.ApproximateNumberOfMessagesVisible.name, "QueueName", q]
        ], [
        for q in values(local.job_queue_names) : ["AWS/SQS", local.metrics.ApproximateNumberOfMessagesNotVisible.name, "QueueName", q]
        ], [
        ["AWS/SQS", local.metrics.ApproximateNumberOfMessagesVisible.name, "QueueName", local.dead_letter_name]
      ]) },
      { title = "Latency of the model (s)", stats = ["p50", "p90", "p99"], lines = local.per_model.InvokeLatency },
      { title = "Wait before the start (s)", stats = ["p50", "p90", "p99"], lines = local.per_model.QueueWait },
      { title = "Invocations under way", stat = "Maximum", lines = local.per_service.InFlight },
      # Each drainer sends one value a period.
      { title = "Drainers that were heard of", stat = "SampleCount", lines = local.per_service.InFlight },
      { title = "The tasks' CPU and memory (%)", stat = "Maximum", lines = [
        for name in ["CPUUtilization", "MemoryUtilization"] :
        ["AWS/ECS", name, "ClusterName", aws_ecs_cluster.sluice.name, "ServiceName", aws_ecs_service.drainer.name]
      ] },
      { title = "Worth a look: paid twice, result errors, no max_tokens, no free slot", stat = "Sum", lines = concat(
        local.per_service.PaidTwice, local.per_service.ResultErrors, local.per_service.Unbounded, local.per_service.SlotBoundSeconds,
      ) },
    ],
  )
}

resource "aws_cloudwatch_dashboard" "sluice" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type       = "alarm", x = 0, y = 0, width = 24, height = 3
        properties = { title = "Status", alarms = [for name in values(local.alarm_names) : "arn:${local.partition}:cloudwatch:${local.region}:${local.account}:alarm:${name}"] }
      }],
      [for i, w in local.widgets : {
        type = "metric", x = i % 2 * 12, y = 3 + floor(i / 2) * 6, width = 12, height = 6
        properties = merge(
          {
            title   = w.title
            region  = local.region
            view    = "timeSeries"
            period  = 60
            metrics = try([for pair in setproduct(w.lines, w.stats) : concat(pair[0], [{ stat = pair[1] }])], [for line in w.lines : concat(line, [{ stat = w.stat }])])
            yAxis   = { left = { min = 0 } }
          },
          try({ annotations = { horizontal = [w.level] } }, {}),
        )
      }],
    )
  })
}
