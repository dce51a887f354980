output "enqueue_command" {
  description = "Puts the jobs of a file on the first queue."
  value = join(" ", [
    "producer enqueue",
    "--queue-url ${local.queue_urls[0]}",
    "--results ${local.derived.SLUICE_RESULTS_S3}",
    "--payloads ${local.derived.SLUICE_PAYLOADS_S3}",
    "jobs.jsonl",
  ])
}

output "queue_urls" {
  description = "The job queues, for apps that enqueue by themselves."
  value       = { for key, q in aws_sqs_queue.jobs : key => q.url }
}

output "dead_letter_queue_url" {
  description = "Where jobs lie that can't succeed, with the reason on them."
  value       = aws_sqs_queue.dead_letters.url
}

output "results" {
  description = "Where results are: RUN/ID.json below it."
  value       = local.derived.SLUICE_RESULTS_S3
}

output "results_queue_url" {
  description = "Copies of results, where results_queue asks for them."
  value       = one(aws_sqs_queue.results[*].url)
}

output "policy_arns" {
  description = "Policies to attach: producer to apps that enqueue, reader to those that read results, operator to people who look after dead letters."
  value       = { for key, p in aws_iam_policy.apps : key => p.arn }
}

output "dashboard_url" {
  description = "The dashboard."
  value       = "https://${local.region}.console.aws.amazon.com/cloudwatch/home?region=${local.region}#dashboards:name=${aws_cloudwatch_dashboard.sluice.dashboard_name}"
}

output "cluster" {
  description = "The ECS cluster, for \"aws ecs\" and \"aws logs\"."
  value       = aws_ecs_cluster.sluice.name
}

output "service" {
  description = "The ECS service."
  value       = aws_ecs_service.drainer.name
}

output "security_group_id" {
  description = "The tasks' security group, for a rule that lets somebody read the admin listener (docs/operations.md)."
  value       = aws_security_group.drainer.id
}

output "log_group" {
  description = "Where the drainer logs."
  value       = aws_cloudwatch_log_group.drainer.name
}

output "environment" {
  description = "What the drainer is configured with, as in its task definition."
  value       = local.environment
}
