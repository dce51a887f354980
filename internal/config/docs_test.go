package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const document = "../../docs/configuration.md"

// TestDocumentation holds docs/configuration.md true to the tags and tables of
// this package, which it is generated from.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	want := documentation()
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/configuration.md is out of date; make generate writes it anew:\n%s", diff)
	}
}

func documentation() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Written by make generate from internal/config. Do not edit. -->

A drainer is configured by its environment. ` + "`drainer config`" + ` prints what holds and where it comes from, or every
problem at once; of the models first what can't be read (unknown fields, wrong types), and what is wrong with the values
when all can be. ` + "`drainer config --models FILE`" + ` looks at a file of models alone.

A variable that is set to nothing counts as not set, where its row does not say otherwise. A variable that begins with
SLUICE_ and is not in the table is an error, so that a misspelt one does not go unnoticed; those that Kubernetes makes for
its services are ignored.

Endpoints, Region and credentials are the AWS SDK's own variables (AWS_REGION, AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_SQS,
AWS_PROFILE, ...). The Region is that of the queues and the bucket; a route names its own. Where an S3 endpoint is set, path
style is used.

## Variables

| variable | default | meaning |
|---|---|---|
`)
	for f := range reflect.TypeFor[Config]().Fields() {
		row(&b, f.Tag.Get("envconfig"), f)
	}

	b.WriteString(`
## Models

SLUICE_MODELS, or the file that SLUICE_MODELS_FILE names, is one JSON object: a model for each alias. Jobs ask for an
alias, or for a model ID that exactly one alias serves; nothing else is ever invoked.

` + "```json\n" + example + "```" + `

A model:

| field | default | meaning |
|---|---|---|
`)
	fields(&b, reflect.TypeFor[modelJSON]())
	b.WriteString(`
A route:

| field | default | meaning |
|---|---|---|
`)
	fields(&b, reflect.TypeFor[routeJSON]())
	b.WriteString(`
Quotas are what the Service Quotas console shows as *applied*, in the Region that is called. On-demand, cross-Region
(` + "`us.`, `eu.`" + `, ...) and global (` + "`global.`" + `) inference have a quota each, so they are routes with a quota each.
A model whose quota has no requests per minute (AWS enforces them for some models only) has no rpm.

## Models by family

What burndown and default_max_tokens are where they are not given. The model is recognised behind a geography
(` + "`us.`, `eu.`, `apac.`, `au.`, `jp.`, `ca.`, `us-gov.`, `global.`" + `), a date and a version, and in the ARN of a foundation model
or an inference profile. The first matching row holds. Where none does, or the row has no numbers, both must be given:
application inference profiles, provisioned throughput and custom models do not name their model.

| model | family | burndown | default_max_tokens |
|---|---|---:|---:|
`)
	for _, f := range families {
		if f.burndown == 0 {
			fmt.Fprintf(&b, "| `%s` | %s | | |\n", f.models, f.name)
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %v | %d |\n", f.models, f.name, f.burndown, f.maxTokens)
	}
	b.WriteString(`
Burndown rates are [AWS's](https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html) of October
2026. default_max_tokens is the model's longest output, which is what Converse reserves for a request that sets no
maxTokens: such requests are expensive, and the metric Unbounded counts them. The numbers are those of AWS's
[model cards](https://docs.aws.amazon.com/bedrock/latest/userguide/model-cards.html) of August and October 2026, and guesses
on the high side where a card has none; internal/config/family.go says where.
`)
	return b.String()
}

func fields(b *strings.Builder, t reflect.Type) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		row(b, name, f)
	}
}

func row(b *strings.Builder, name string, f reflect.StructField) {
	def := f.Tag.Get("shown")
	if def == "" {
		def = f.Tag.Get("default")
	}
	fmt.Fprintf(b, "| %s | %s | %s |\n", name, def, strings.ReplaceAll(f.Tag.Get("desc"), "|", `\|`))
}
