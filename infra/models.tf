# What the rest of the module has to know about the models.

locals {
  models = jsondecode(var.models)
  routes = distinct(flatten([
    for alias, m in local.models : [for r in m.routes : { id = r.model_id, region = r.region }]
  ]))

  # A model ID says by its first word whether it is a system inference profile.
  geographies = merge(var.geographies, { global = [""] }) # a Region that is none

  # What a route calls, and the name (a model's or a system profile's) behind it.
  targets = [for r in local.routes : {
    region = r.region
    name   = lookup(var.application_profiles, r.id, reverse(split("/", r.id))[0])
    arn = startswith(r.id, "arn:") ? r.id : join("", [
      "arn:${local.partition}:bedrock:${r.region}:",
      contains(keys(local.geographies), split(".", r.id)[0]) ? "${local.account}:inference-profile/" : ":foundation-model/",
      r.id,
    ])
  }]

  # To call a profile takes the right to call its model too, in every Region that
  # the profile may choose: the caller's, its geography's, and for global. one
  # that has no Region in its ARN.
  profiles = [for t in local.targets : merge(t, {
    model   = contains(keys(local.geographies), split(".", t.name)[0]) ? join(".", slice(split(".", t.name), 1, length(split(".", t.name)))) : t.name
    regions = distinct(concat([t.region], lookup(local.geographies, split(".", t.name)[0], [])))
  }) if strcontains(t.arn, "inference-profile/")]

  profiled_models = distinct(flatten([
    for p in local.profiles : [for region in p.regions : "arn:${local.partition}:bedrock:${region}::foundation-model/${p.model}"]
  ]))

  # Profiles of which nobody has told what they wrap.
  unknown_profiles = [
    for r in local.routes : r.id
    if strcontains(r.id, ":application-inference-profile/") && !contains(keys(var.application_profiles), r.id)
  ]
}
