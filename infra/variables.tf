variable "name" {
  type        = string
  default     = "sluice"
  description = "This deployment: the beginning of every name, and the Service dimension of its metrics. Two deployments in one account need two names."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must be 1 to 24 lower-case letters, digits and hyphens, a letter first: it begins the name of a bucket."
  }
}

variable "image" {
  type        = string
  description = "The drainer's image, as ECS pulls it. README.md has the three commands that build and push one."

  validation {
    condition     = can(regex("^\\S+$", var.image))
    error_message = "image must be an image's name, such as ACCOUNT.dkr.ecr.REGION.amazonaws.com/sluice:1.0."
  }
}

variable "models" {
  type        = string
  description = "The models and their routes: the JSON of SLUICE_MODELS (docs/configuration.md), usually file(\"models.json\"). Queues, permissions, alarms and dashboard follow from it."

  validation {
    condition     = can([for alias, m in jsondecode(var.models) : [for r in m.routes : "${r.model_id} ${r.region}"]])
    error_message = "models must be a JSON object of models by alias, each with routes that have a model_id and a region. \"drainer config --models FILE\" tells what else is wrong with it."
  }

  validation {
    condition     = try(length(jsondecode(var.models)) > 0, true) # else the message above
    error_message = "models must name at least one model."
  }

  # The rest is what is easily misspelt. All of it: drainer config --models.
  validation {
    condition = try(length(setsubtract(flatten([for m in values(jsondecode(var.models)) : keys(m)]), [
      "routes", "burndown", "default_max_tokens", "max_in_flight", "timeout", "fallback", "fallback_after",
    ])) == 0, true)
    error_message = "models has a model with a field that there is not: docs/configuration.md lists them, \"drainer config --models FILE\" names it."
  }

  validation {
    condition = try(length(setsubtract(flatten([for m in values(jsondecode(var.models)) : [for r in m.routes : keys(r)]]), [
      "model_id", "region", "rpm", "tpm", "quota", "unpaced",
    ])) == 0, true)
    error_message = "models has a route with a field that there is not: docs/configuration.md lists them, \"drainer config --models FILE\" names it."
  }

  validation {
    condition     = try(alltrue(flatten([for m in values(jsondecode(var.models)) : [for r in m.routes : (can(r.rpm) || can(r.tpm)) != try(r.unpaced, false)]])), true)
    error_message = "models must have an rpm or a tpm for each route, or \"unpaced\": true in place of both."
  }

  validation {
    condition = try(length(setsubtract(
      flatten([for m in values(jsondecode(var.models)) : try(m.fallback, [])]),
      flatten([for alias, m in jsondecode(var.models) : [alias, m.routes[*].model_id]]),
    )) == 0, true)
    error_message = "models has a fallback to a model that it does not have."
  }
}

variable "queues" {
  type = map(object({
    priority = optional(number, 100)
  }))
  default     = null
  description = "Job queues by name; the lower the priority's number, the sooner it is served. Left out, there is one for each model, which costs least: a model that has to wait is then simply not received."

  validation {
    condition     = var.queues == null ? true : length(var.queues) > 0 && alltrue([for key, q in var.queues : can(regex("^[A-Za-z0-9_-]{1,40}$", key)) && q.priority >= 0 && q.priority < 1e6])
    error_message = "queues must have at least one queue, with names of 1 to 40 letters, digits, hyphens and underscores, and priorities from 0 to 999999."
  }
}

variable "results_queue" {
  type        = bool
  default     = false
  description = "Whether a queue gets a copy of each result, for apps that would rather receive than poll S3."
}

variable "results_days" {
  type        = number
  default     = 90
  description = "Days until a result is deleted. A job that is enqueued again after that is paid for again."

  validation {
    condition     = var.results_days >= 14 && floor(var.results_days) == var.results_days
    error_message = "results_days must be a whole number, at least 14: a result must outlive its job's stay on the queue, or the job would be done twice."
  }
}

variable "kms_key_arn" {
  type        = string
  default     = null
  description = "A customer key for the queues and the bucket, in place of the ones that SQS and S3 manage. Each role and policy then gets the rights on it that it needs; the key's own policy must let this account's IAM decide."

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key, not of an alias: policies know no aliases."
  }
}

variable "application_profiles" {
  type        = map(string)
  default     = {}
  description = "What each application inference profile of the models wraps, by the profile's ARN: a model ID or a system profile's ID. Their ARNs don't say, and permissions need it."

  validation {
    condition     = alltrue([for arn in keys(var.application_profiles) : strcontains(arn, ":application-inference-profile/")])
    error_message = "application_profiles must have the ARNs of application inference profiles for keys."
  }
}

variable "geographies" {
  type = map(list(string))
  default = {
    us     = ["us-east-1", "us-east-2", "us-west-1", "us-west-2"]
    us-gov = ["us-gov-east-1", "us-gov-west-1"]
    ca     = ["ca-central-1", "ca-west-1"]
    eu     = ["eu-central-1", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-3"]
    apac   = ["ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-4"]
    au     = ["ap-southeast-2", "ap-southeast-4"]
    jp     = ["ap-northeast-1", "ap-northeast-3"]
  }
  description = "The Regions that an inference profile routes to, by the beginning of its ID; the Region that is called is always among them, and global. needs no entry. AWS adds Regions: \"aws bedrock get-inference-profile\" has the list of the day, and one that is missing here shows as AccessDenied."

  validation {
    condition     = alltrue([for regions in values(var.geographies) : length(regions) > 0 && alltrue([for r in regions : can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", r))])])
    error_message = "geographies must have a list of Regions for each."
  }
}

variable "tasks" {
  type        = number
  default     = 1
  description = "Drainers. More of them do not buy more quota: it belongs to the account, and each of N may use 1/N of it (SLUICE_QUOTA_FRACTION). Two survive the loss of one at the price of half the pace meanwhile. 0 stops the service and keeps the jobs."

  validation {
    condition     = contains(range(21), var.tasks)
    error_message = "tasks must be a whole number from 0 to 20."
  }
}

variable "scale_to_zero" {
  type        = bool
  default     = false
  description = "Whether the service stops after 15 minutes without a job (visible, in flight or delayed) and starts with the next one. That takes 2 to 3 minutes, and up to 15 more where the queues were idle for 6 hours, since SQS then publishes nothing."
}

variable "cpu" {
  type        = number
  default     = 256
  description = "CPU units of a task: 1024 are a vCPU. A quarter drains more than most quotas let through."

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.cpu)
    error_message = "cpu must be 256, 512, 1024, 2048 or 4096."
  }
}

variable "memory" {
  type        = number
  default     = 512
  description = "MiB of a task. A quarter holds bodies and answers in flight (SLUICE_MAX_IN_FLIGHT_BYTES): raise it for large jobs."

  validation {
    condition     = var.memory >= 512 && var.memory <= 30720 && floor(var.memory) == var.memory
    error_message = "memory must be 512 to 30720 MiB, of the sizes that Fargate has for the cpu."
  }
}

variable "architecture" {
  type        = string
  default     = "ARM64"
  description = "ARM64, or X86_64, which costs a quarter more. The image must have it."

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture must be ARM64 or X86_64."
  }
}

variable "spot" {
  type        = bool
  default     = false
  description = "Whether to run on Fargate Spot: about a third of the price, and taken away with two minutes' notice, which is what a stop needs. Nothing is lost; jobs wait while there is no Spot."
}

variable "vpc_id" {
  type        = string
  description = "The VPC of the tasks."

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be the ID of a VPC, such as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  type        = list(string)
  description = "The subnets of the tasks."

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids must have at least one subnet."
  }
}

variable "private" {
  type        = bool
  default     = false
  description = "Whether the subnets have no way out. The tasks then get no public address, and the module makes the VPC endpoints that they need; Bedrock can be called in this Region only."
}

variable "route_table_ids" {
  type        = list(string)
  default     = []
  description = "Where private: the subnets' route tables, for the gateway endpoint of S3."
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "Further SLUICE_ variables of the drainer (docs/configuration.md), such as SLUICE_MAX_IN_FLIGHT. Those that the module sets can't be set here."

  validation {
    condition     = alltrue([for name in keys(var.environment) : startswith(name, "SLUICE_")])
    error_message = "environment takes SLUICE_ variables only."
  }
}

variable "log_days" {
  type        = number
  default     = 30
  description = "Days that logs are kept, of the numbers that CloudWatch Logs takes."

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days must be 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}

variable "alarm_topic_arn" {
  type        = string
  default     = null
  description = "The SNS topic that hears of alarms and of their end. Without one they are only seen."

  validation {
    condition     = var.alarm_topic_arn == null ? true : can(regex("^arn:[a-z-]+:sns:", var.alarm_topic_arn))
    error_message = "alarm_topic_arn must be the ARN of an SNS topic."
  }
}

variable "alarms" {
  type = object({
    dead_letters  = optional(bool, true)
    oldest_job    = optional(bool, true)
    drain_time    = optional(bool, true)
    throttles     = optional(bool, true)
    capacity      = optional(bool, true)
    stuck         = optional(bool, true)
    silent        = optional(bool, true)
    failures      = optional(bool, true)
    result_writes = optional(bool, true)
  })
  default     = {}
  description = "Which alarms there are. docs/operations.md has a row for each."
}

variable "oldest_job_age" {
  type        = string
  default     = "6h"
  description = "How long a job may wait before the alarm oldest-job rings: minutes, hours or days, such as 90m, 6h or 2d."

  validation {
    condition     = can(regex("^[1-9][0-9]*[mhd]$", var.oldest_job_age))
    error_message = "oldest_job_age must be a time such as 90m, 6h or 2d."
  }
}

variable "failures_least" {
  type        = number
  default     = 3
  description = "Failures of a model in 5 minutes below which the alarm failures does not ring: at a low quota, one bad job is more than 2 %."

  validation {
    condition     = var.failures_least >= 1 && floor(var.failures_least) == var.failures_least
    error_message = "failures_least must be a whole number, at least 1."
  }
}

variable "period" {
  type        = number
  default     = 60
  description = "Seconds between two publications of metrics, and the period of the alarms on them, which count in periods. 10 and 30 tell of a throttle storm sooner and cost more; SQS's own metrics stay at 60."

  validation {
    condition     = contains([10, 30, 60], var.period)
    error_message = "period must be 10, 30 or 60: the periods that alarms have."
  }
}
