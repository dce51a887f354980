# Alarms that mean something. Each one's description names its row in
# docs/operations.md, which says what to do.

locals {
  namespace = "Sluice"

  # What the drainer publishes (metrics.json is made of its table, so that no
  # alarm and no widget can name a metric that does not exist) and what is used of
  # SQS's own.
  metrics = merge(
    { for m in jsondecode(file("${path.module}/metrics.json")) : m.name => merge(m, { namespace = local.namespace, period = var.period }) },
    { for name in local.backlog_metrics : name => { name = name, unit = "Count", dimensions = ["QueueName"], namespace = "AWS/SQS", period = 60 } },
  )

  # The models that answer a queue's jobs. On a queue of one model: itself and its
  # fallbacks; else any.
  answering = { for key in keys(local.queues) : key => distinct(flatten(try(
    [for alias in local.queue_models[key] : concat([alias], try(local.models[alias].fallback, []))],
    [keys(local.models)],
  ))) }

  oldest_job_seconds = tonumber(trimsuffix(trimsuffix(trimsuffix(var.oldest_job_age, "m"), "h"), "d")) * {
    m = 60, h = 3600, d = 86400
  }[substr(var.oldest_job_age, -1, 1)]

  # Jobs in a queue, by metrics called waiting and taken. SQS tells its numbers some
  # minutes late, and CloudWatch looks at the newest minute all the same: filled with
  # 0 it would keep an alarm silent for ever, so the last number stands.
  in_queue = "FILL(waiting,REPEAT)+FILL(taken,REPEAT)"

  # An alarm is a metric, or an expression of several, above a threshold. "for" is
  # periods; of names the model or queue that a metric is about. In a sum, a series
  # without a value counts as 0, but not a sum of nothing else: hence 0*(...).
  alarms = merge(
    { for key in ["dead-letters"] : key => {
      row  = "dead-letters"
      text = "Jobs that can't succeed lie on the dead-letter queue."
      m    = { dead = { metric = local.metrics.ApproximateNumberOfMessagesVisible, stat = "Maximum", of = local.dead_letter_name } }
      over = 0
      for  = 1
    } if var.alarms.dead_letters },

    { for key in ["oldest-job"] : key => {
      row  = "oldest-job"
      text = "A job has waited for more than ${var.oldest_job_age}."
      m    = { age = { metric = local.metrics.OldestJobAge, stat = "Maximum" } }
      over = local.oldest_job_seconds
      for  = 5
    } if var.alarms.oldest_job },

    { for key in ["drain-time"] : key => {
      row  = "drain-time"
      text = "At this pace the backlog takes more than half of the ${local.job_days} days that SQS keeps it."
      m    = { left = { metric = local.metrics.DrainSeconds, stat = "Maximum" } }
      # Each drainer estimates as if it were alone.
      over = local.job_days * 86400 / 2 * max(var.tasks, 1)
      for  = 15
    } if var.alarms.drain_time },

    { for alias in keys(local.models) : "throttles-${alias}" => {
      row  = "throttles"
      text = "Warning: Bedrock refuses more than 5 % of the requests to ${alias} for its quota. No job fails for it."
      m    = { rate = { metric = local.metrics.ThrottleRate, stat = "Average", of = alias } }
      over = 5
      for  = 5
    } if var.alarms.throttles },

    { for alias in keys(local.models) : "capacity-${alias}" => {
      row  = "capacity"
      text = "More than 10 % of the requests to ${alias} fail for Bedrock's reasons, not for the quota."
      m = {
        errors   = { metric = local.metrics.CapacityErrors, stat = "Sum", of = alias }
        answered = { metric = local.metrics.Invocations, stat = "Sum", of = alias }
      }
      expression = "100*errors/(answered+errors)"
      over       = 10
      for        = 5
    } if var.alarms.capacity },

    { for key, models in local.answering : "stuck-${key}" => {
      row  = "stuck"
      text = "Jobs on ${key}, and for 10 minutes none has succeeded."
      m = merge(
        { waiting = { metric = local.metrics.ApproximateNumberOfMessagesVisible, stat = "Maximum", of = local.job_queue_names[key] } },
        { taken = { metric = local.metrics.ApproximateNumberOfMessagesNotVisible, stat = "Maximum", of = local.job_queue_names[key] } },
        { for i, alias in slice(models, 0, min(8, length(models))) : "done${i}" => { metric = local.metrics.Succeeded, stat = "Sum", of = alias } },
      )
      expression = "IF(${local.in_queue}>0 AND 0*(${local.in_queue})+${join("+", [for i in range(min(8, length(models))) : "done${i}"])}<1,1,0)"
      period     = 60
      over       = 0
      for        = 10
    } if var.alarms.stuck && length(models) <= 8 }, # CloudWatch takes ten metrics in an alarm

    { for key in keys(local.queues) : "silent-${key}" => {
      row  = "silent"
      text = "Jobs on ${key}, and for 10 minutes no drainer has published a metric."
      m = {
        waiting = { metric = local.metrics.ApproximateNumberOfMessagesVisible, stat = "Maximum", of = local.job_queue_names[key] }
        taken   = { metric = local.metrics.ApproximateNumberOfMessagesNotVisible, stat = "Maximum", of = local.job_queue_names[key] }
        heard   = { metric = local.metrics.InFlight, stat = "SampleCount" }
      }
      expression = "IF(${local.in_queue}>0 AND 0*(${local.in_queue})+heard<1,1,0)"
      period     = 60
      over       = 0
      for        = 10
      # A service that runs always has something to say; one that sleeps has not.
      missing = var.scale_to_zero ? "notBreaching" : "breaching"
    } if var.alarms.silent && var.tasks > 0 },

    { for alias in keys(local.models) : "failures-${alias}" => {
      row  = "failures"
      text = "More than 2 % of the results of ${alias} in 5 minutes are failures: all of them, or at least ${var.failures_least}."
      m = {
        failed    = { metric = local.metrics.Failed, stat = "Sum", of = alias }
        succeeded = { metric = local.metrics.Succeeded, stat = "Sum", of = alias }
      }
      expression = "IF(failed>=${var.failures_least},100*failed/(succeeded+failed),IF(succeeded<1,100*failed/(succeeded+failed),0))"
      period     = 300 # minute by minute, a short run that fails whole would go by
      over       = 2
      for        = 1
    } if var.alarms.failures },

    { for key in ["result-writes"] : key => {
      row  = "result-writes"
      text = "Results, or their copies, could not be stored at the first try, minute after minute."
      m    = { errors = { metric = local.metrics.ResultErrors, stat = "Sum" } }
      over = 0
      for  = 3
    } if var.alarms.result_writes },
  )

  alarm_names = { for key in keys(local.alarms) : key => "${var.name}-${replace(key, "/", "-")}" }

  # Of the alarms without an expression, the metric.
  single = { for key, a in local.alarms : key => values(a.m)[0] if !can(a.expression) }
}

resource "aws_cloudwatch_metric_alarm" "sluice" {
  for_each = local.alarms

  alarm_name          = local.alarm_names[each.key]
  alarm_description   = "${each.value.text} What to do: docs/operations.md, row ${each.value.row}."
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.over
  evaluation_periods  = each.value.for
  treat_missing_data  = try(each.value.missing, "notBreaching")
  alarm_actions       = compact([var.alarm_topic_arn])
  ok_actions          = compact([var.alarm_topic_arn])

  # One metric: as such. Some emulators evaluate nothing else.
  namespace   = try(local.single[each.key].metric.namespace, null)
  metric_name = try(local.single[each.key].metric.name, null)
  period      = try(local.single[each.key].metric.period, null)
  unit        = try(local.single[each.key].metric.unit, null)
  statistic   = try(local.single[each.key].stat, null)
  dimensions  = try({ for d in local.single[each.key].metric.dimensions : d => d == "Service" ? var.name : local.single[each.key].of }, null)

  dynamic "metric_query" {
    for_each = { for id, q in each.value.m : id => q if can(each.value.expression) }

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value.metric.namespace
        metric_name = metric_query.value.metric.name
        period      = try(each.value.period, metric_query.value.metric.period)
        unit        = metric_query.value.metric.unit
        stat        = metric_query.value.stat
        dimensions  = { for d in metric_query.value.metric.dimensions : d => d == "Service" ? var.name : metric_query.value.of }
      }
    }
  }

  dynamic "metric_query" {
    for_each = try([each.value.expression], [])

    content {
      id          = "result"
      expression  = metric_query.value
      label       = each.value.row
      return_data = true
    }
  }
}
