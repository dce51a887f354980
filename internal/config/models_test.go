package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicehq/sluice/job"
)

// example is the one of the documentation.
const example = `{
  "sonnet": {
    "routes": [
      {"model_id": "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "region": "us-east-1", "rpm": 200, "tpm": 200000},
      {"model_id": "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "region": "us-west-2", "tpm": 100000}
    ],
    "max_in_flight": 64,
    "timeout": "10m",
    "fallback": ["haiku"],
    "fallback_after": "30m"
  },
  "haiku": {
    "routes": [{"model_id": "us.anthropic.claude-haiku-4-5-20251001-v1:0", "region": "us-east-1", "tpm": 500000}]
  },
  "embed": {
    "routes": [{"model_id": "amazon.titan-embed-text-v2:0", "region": "us-east-1", "rpm": 2000}]
  },
  "ours": {
    "routes": [{"model_id": "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc", "region": "us-east-1", "unpaced": true}],
    "burndown": 1, "default_max_tokens": 8192
  }
}
`

func TestParseModels(t *testing.T) {
	t.Parallel()
	got, err := ParseModels([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	const (
		sonnet = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
		haiku  = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
		titan  = "amazon.titan-embed-text-v2:0"
		ours   = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc"
	)
	want := Models{
		"sonnet": {
			Routes: []Route{
				{Route: job.Route{Region: "us-east-1", ModelID: sonnet}, Quota: sonnet, RPM: 200, TPM: 200000},
				{Route: job.Route{Region: "us-west-2", ModelID: sonnet}, Quota: sonnet, TPM: 100000},
			},
			Burndown: 5, DefaultMaxTokens: 64000, MaxInFlight: 64, Timeout: 10 * time.Minute,
			Fallback: []string{"haiku"}, FallbackAfter: 30 * time.Minute, Family: "anthropic",
		},
		"haiku": {
			Routes:   []Route{{Route: job.Route{Region: "us-east-1", ModelID: haiku}, Quota: haiku, TPM: 500000}},
			Burndown: 5, DefaultMaxTokens: 64000, Timeout: 15 * time.Minute, Family: "anthropic",
		},
		"embed": {
			Routes:   []Route{{Route: job.Route{Region: "us-east-1", ModelID: titan}, Quota: titan, RPM: 2000}},
			Burndown: 1, Timeout: 15 * time.Minute, Family: "amazon.titan-embed",
		},
		"ours": {
			Routes:   []Route{{Route: job.Route{Region: "us-east-1", ModelID: ours}, Quota: ours, Unpaced: true}},
			Burndown: 1, DefaultMaxTokens: 8192, Timeout: 15 * time.Minute, Family: ours,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// route writes a route of model m in us-east-1, with more fields.
func route(m, more string) string {
	return `{"model_id": "` + m + `", "region": "us-east-1"` + more + `}`
}

// Only what contradicts is refused: AWS lets some Regions call a neighbour's
// profiles, and new geographies come.
func TestGeographies(t *testing.T) {
	t.Parallel()
	for geography, regions := range map[string]string{
		"us": "us-east-1 us-west-2 ca-central-1", "us-gov": "us-gov-west-1", "eu": "eu-west-1 il-central-1",
		"apac": "ap-south-1 me-central-1", "au": "ap-southeast-2", "jp": "ap-northeast-1", "ca": "ca-central-1 us-east-1", "global": "us-east-1 eu-west-1",
	} {
		for region := range strings.FieldsSeq(regions) {
			if _, err := ParseModels([]byte(`{"m": {"routes": [{"model_id": "` + geography + `.amazon.nova-lite-v1:0", "region": "` + region + `", "tpm": 1}]}}`)); err != nil {
				t.Errorf("%s. in %s: %v", geography, region, err)
			}
		}
	}
}

func TestParseModelsProblems(t *testing.T) {
	t.Parallel()
	const (
		nova   = "amazon.nova-lite-v1:0"
		claude = "anthropic.claude-sonnet-4-5-20250929-v1:0"
		arn    = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
	)
	one := func(fields string) string {
		return `{"m": {"routes": [` + route(nova, `, "tpm": 1`) + `]` + fields + `}}`
	}
	routes := func(routes ...string) string {
		return `{"m": {"routes": [` + strings.Join(routes, ", ") + `], "burndown": 1, "default_max_tokens": 1}}`
	}
	told := func(routes ...string) string { return `{"m": {"routes": [` + strings.Join(routes, ", ") + `]}}` }
	two := func(a, b string) string { return `{"a": ` + a + `, "b": ` + b + `}` }
	model := func(route, more string) string { return `{"routes": [` + route + `]` + more + `}` }
	tests := []struct {
		name, in string
		want     []string
	}{
		{"empty", ``, []string{"is no JSON: line 1, column 1: unexpected end of JSON input"}},
		{"comma", "{\n \"m\": {},\n}", []string{"is no JSON: line 3, column 1: invalid character '}' looking for beginning of object key string"}},
		{"trailing", `{} {}`, []string{"is no JSON: line 1, column 4: invalid character '{' after top-level value"}},
		{"null", `null`, []string{"must be an object, not null"}},
		{"list", `[]`, []string{"must be an object"}},
		{"no model", `{}`, []string{"must name at least one model"}},
		{"doubled alias", `{"m": 1, "m": 2}`, []string{"m: stands there twice", "m: must be an object"}},
		{"no routes", `{"m": {}}`, []string{"m.routes: must have at least one route"}},
		{"routes null", `{"m": {"routes": null}}`, []string{"m.routes: must be a list, not null"}},
		{"routes object", `{"m": {"routes": {}}}`, []string{"m.routes: must be a list"}},
		{"case", `{"m": {"Routes": []}}`, []string{"m.Routes: unknown field"}},
		{"alias", `{"a b": {"routes": [` + route(nova, `, "tpm": 1`) + `]}}`, []string{"a b: must be a name of 1 to 128 letters, digits and ._:/-"}},
		{"string for number", routes(route(nova, `, "tpm": "1"`)), []string{`m.routes[0].tpm: must be a number, not "1"`}},
		{"too large a number", routes(route(nova, `, "tpm": 1e400`)), []string{`m.routes[0].tpm: must be a number, not 1e400`}},
		{"zero quota", routes(route(nova, `, "rpm": 0, "tpm": -1`)), []string{
			"m.routes[0].rpm: must be positive, at most 1e+12", "m.routes[0].tpm: must be positive, at most 1e+12"}},
		{"no quota", routes(route(nova, ``)), []string{`m.routes[0]: must have rpm or tpm, or "unpaced": true`}},
		{"quota and unpaced", routes(route(nova, `, "rpm": 1, "unpaced": true`)), []string{"m.routes[0]: is unpaced: rpm and tpm must be absent"}},
		{"no model ID", routes(`{"region": "us-east-1", "tpm": 1}`), []string{"m.routes[0].model_id: must be a model ID, an inference profile or an ARN"}},
		{"no region", routes(`{"model_id": "x", "tpm": 1}`), []string{"m.routes[0].region: must be a Region such as us-east-1"}},
		{"zone", routes(`{"model_id": "x", "region": "us-east-1a", "tpm": 1}`), []string{"m.routes[0].region: must be a Region such as us-east-1"}},
		{"other geography", told(route("eu."+nova, `, "tpm": 1`), `{"model_id": "us.`+nova+`", "region": "ap-south-1", "tpm": 1}`), []string{
			"m.routes[0].region: must be a Region of eu. profiles", "m.routes[1].region: must be a Region of us. profiles"}},
		{"foreign ARN", routes(`{"model_id": "` + arn + `", "region": "eu-west-1", "tpm": 1}`), []string{"m.routes[0].region: must be us-east-1, where the ARN is"}},
		{"quota name", routes(route(nova, `, "tpm": 1, "quota": "a b"`)), []string{"m.routes[0].quota: must be printable ASCII without spaces, at most 256 bytes"}},
		{"same route twice", routes(route(nova, `, "tpm": 1`), route(nova, `, "tpm": 1`)), []string{"m.routes[1]: stands there twice"}},
		{"family untold", told(route(arn, `, "tpm": 1`)), []string{
			"m.burndown: must be given: " + arn + " does not tell it", "m.default_max_tokens: must be given: " + arn + " does not tell it"}},
		{"newer than the table", told(route("anthropic.claude-opus-9-v1:0", `, "tpm": 1`)), []string{
			"m.burndown: must be given: anthropic.claude-opus-9-v1:0 does not tell it",
			"m.default_max_tokens: must be given: anthropic.claude-opus-9-v1:0 does not tell it"}},
		{"two families", told(route(nova, `, "tpm": 1`), route(claude, `, "tpm": 1`)), []string{
			"m.routes[1].model_id: is of family anthropic beside amazon.nova: all routes of a model must understand the same request",
			"m.routes[1].model_id: has burndown 5 beside 1: make them two models"}},
		{"two burndowns", told(route(claude, `, "tpm": 1`), route("anthropic.claude-sonnet-5", `, "tpm": 1`)), []string{
			"m.routes[1].model_id: has burndown 10 beside 5: make them two models"}},
		{"burndown", one(`, "burndown": 0`), []string{"m.burndown: must be positive, at most 1000"}},
		{"default_max_tokens", one(`, "default_max_tokens": -1`), []string{"m.default_max_tokens: must be 0 or more"}},
		{"half a token", one(`, "default_max_tokens": 1.5`), []string{"m.default_max_tokens: must be a whole number, not 1.5"}},
		{"max_in_flight", one(`, "max_in_flight": 0`), []string{"m.max_in_flight: must be at least 1"}},
		{"timeout in seconds", one(`, "timeout": 60`), []string{"m.timeout: must be a duration such as 90s or 15m, not 60"}},
		{"timeout zero", one(`, "timeout": "0s"`), []string{`m.timeout: must be a duration such as 90s or 15m, not "0s"`}},
		{"timeout long", one(`, "timeout": "2h"`), []string{"m.timeout: must be 1s to 1h0m0s"}},
		{"fallback unknown", one(`, "fallback": ["n"]`), []string{`m.fallback[0]: no such model: "n"`}},
		{"fallback to itself", one(`, "fallback": ["m"]`), []string{"m.fallback[0]: is the model itself"}},
		{"fallback to itself by model ID", one(`, "fallback": ["` + nova + `"]`), []string{"m.fallback[0]: is the model itself"}},
		{"fallback null", one(`, "fallback": [null]`), []string{"m.fallback[0]: must be a string, not null"}},
		{"fallback_after alone", one(`, "fallback_after": "1m"`), []string{"m.fallback_after: needs a fallback"}},
		{"fallback twice", two(
			model(route(nova, `, "tpm": 1`), `, "fallback": ["b", "`+claude+`"]`),
			model(route(claude, `, "tpm": 1`), ``),
		), []string{"a.fallback[1]: stands there twice"}},
		{"contradictory quota", two(
			model(route(nova, `, "tpm": 1`), ``),
			model(route(nova, `, "tpm": 1, "rpm": 1`), ``),
		), []string{`b.routes[0]: contradicts a.routes[0]: both draw on quota "amazon.nova-lite-v1:0" in us-east-1 and must give the same rpm, tpm and unpaced`}},
		{"contradictory named quota", two(
			model(route(nova, `, "tpm": 1, "quota": "q"`), ``),
			model(route(claude, `, "tpm": 2, "quota": "q"`), ``),
		), []string{`b.routes[0]: contradicts a.routes[0]: both draw on quota "q" in us-east-1 and must give the same rpm, tpm and unpaced`}},
		{"two quotas for one model", two(
			model(route(nova, `, "tpm": 1`), ``),
			model(route(nova, `, "tpm": 1, "quota": "q"`), ``),
		), []string{"b.routes[0].quota: contradicts a.routes[0]: one model in one Region has one quota"}},
		{"two burndowns for one model", two(
			model(route(nova, `, "tpm": 1`), ``),
			model(route(nova, `, "tpm": 1`), `, "burndown": 2`),
		), []string{"b.burndown: contradicts a.routes[0]: one model has one burndown"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseModels([]byte(test.in))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseModelsAccepts(t *testing.T) {
	t.Parallel()
	nova := route("amazon.nova-lite-v1:0", `, "tpm": 1`)
	for name, in := range map[string]string{
		"nothing where nothing is meant": `{"m": {"routes": [` + nova + `], "timeout": "", "fallback": [], "fallback_after": ""}}`,
		"two aliases of one model":       `{"a": {"routes": [` + nova + `]}, "b": {"routes": [` + nova + `], "max_in_flight": 1}}`,
		"one quota of two models": `{"m": {"routes": [` + route("amazon.nova-lite-v1:0", `, "tpm": 1, "quota": "q"`) + `, ` +
			route("amazon.nova-pro-v1:0", `, "tpm": 1, "quota": "q"`) + `]}}`,
		"provisioned beside on-demand": `{"m": {"routes": [` + nova + `, ` + route("arn:aws:bedrock:us-east-1:1:provisioned-model/a", `, "unpaced": true`) +
			`], "burndown": 1, "default_max_tokens": 100}}`,
		"no output behind a profile": `{"m": {"routes": [` + route("arn:aws:bedrock:us-east-1:1:application-inference-profile/a", `, "rpm": 1`) +
			`], "burndown": 1, "default_max_tokens": 0}}`,
		"GovCloud": `{"m": {"routes": [{"model_id": "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "region": "us-gov-west-1", "tpm": 1}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := ParseModels([]byte(in)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	models, err := ParseModels([]byte(`{
		"a": {"routes": [` + route("amazon.nova-lite-v1:0", `, "tpm": 1`) + `]},
		"b": {"routes": [` + route("amazon.nova-lite-v1:0", `, "tpm": 1`) + `, ` + route("amazon.nova-pro-v1:0", `, "tpm": 1`) + `]},
		"amazon.nova-micro-v1:0": {"routes": [` + route("us.amazon.nova-micro-v1:0", `, "tpm": 1`) + `]}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a":                         "a",
		"b":                         "b",
		"amazon.nova-pro-v1:0":      "b",
		"amazon.nova-micro-v1:0":    "amazon.nova-micro-v1:0",
		"us.amazon.nova-micro-v1:0": "amazon.nova-micro-v1:0",
		"amazon.nova-lite-v1:0":     "", // two aliases serve it
		"A":                         "",
		"":                          "",
	} {
		if got, ok := models.Resolve(name); got != want || ok != (want != "") {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, got, ok, want)
		}
	}
}

func TestFamilyOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		modelID   string
		name      string
		burndown  float64
		maxTokens int64
	}{
		{"anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", 5, 64000},
		{"us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", 5, 64000},
		{"eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", 5, 64000},
		{"apac.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic", 5, 64000},
		{"au.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", 5, 64000},
		{"jp.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", 5, 64000},
		{"ca.amazon.nova-lite-v1:0", "amazon.nova", 1, 10000},
		{"us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", 5, 64000},
		{"global.anthropic.claude-opus-4-5-20251101-v1:0", "anthropic", 5, 64000},
		{"arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-1-20250805-v1:0", "anthropic", 5, 32000},
		{"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-20250514-v1:0", "anthropic", 5, 32000},
		{"arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/us-gov.amazon.nova-pro-v1:0", "amazon.nova", 1, 10000},
		{"anthropic.claude-opus-4-6-v1", "anthropic", 5, 128000},
		{"anthropic.claude-sonnet-4-6", "anthropic", 5, 64000},
		{"global.anthropic.claude-opus-4-7", "anthropic", 5, 128000},
		{"anthropic.claude-opus-4-8", "anthropic", 15, 128000},
		{"anthropic.claude-opus-5", "anthropic", 10, 128000},
		{"anthropic.claude-opus-5-5", "anthropic", 10, 128000},
		{"anthropic.claude-sonnet-5", "anthropic", 10, 128000},
		{"anthropic.claude-fable-5-1", "anthropic", 10, 128000},
		{"anthropic.claude-3-7-sonnet-20250219-v1:0", "anthropic", 5, 64000},
		{"anthropic.claude-3-5-sonnet-20241022-v2:0", "anthropic", 5, 8192},
		{"anthropic.claude-3-haiku-20240307-v1:0:48k", "anthropic", 5, 4096},
		{"amazon.nova-2-lite-v1:0", "amazon.nova", 1, 65536},
		{"amazon.nova-2-multimodal-embeddings-v1:0", "amazon.nova-embeddings", 1, 0},
		{"amazon.nova-canvas-v1:0", "amazon.nova-canvas", 1, 0},
		{"amazon.titan-embed-text-v2:0", "amazon.titan-embed", 1, 0},
		{"amazon.titan-embed-image-v1", "amazon.titan-embed", 1, 0},
		{"amazon.titan-text-express-v1", "amazon.titan-text", 1, 8192},
		{"us.meta.llama3-3-70b-instruct-v1:0", "meta.llama", 1, 4096},
		{"meta.llama3-70b-instruct-v1:0", "meta.llama", 1, 8192},
		{"us.meta.llama4-scout-17b-instruct-v1:0", "meta.llama", 1, 8192},
		{"mistral.mistral-large-2402-v1:0", "mistral", 1, 8192},
		{"mistral.mistral-large-3-675b-instruct", "mistral", 1, 32768},
		{"cohere.command-r-plus-v1:0", "cohere.command", 1, 4096},
		{"cohere.embed-v4:0", "cohere.embed", 1, 0},
		{"cohere.rerank-v3-5:0", "cohere.rerank", 1, 0},
		{"openai.gpt-oss-120b-1:0", "openai", 1, 16384},
		{"openai.gpt-5.6-sol", "openai", 10, 128000},
		{"qwen.qwen3-coder-480b-a35b-v1:0", "qwen", 1, 16384},
		{"qwen.qwen3-next-80b-a3b", "qwen", 1, 8192},
		{"zai.glm-4.7-flash", "zai", 1, 4096},
		{"zai.glm-5", "zai", 1, 131072},
		{"us.deepseek.r1-v1:0", "deepseek", 1, 8192},
		{"deepseek.v3.2", "deepseek", 1, 8192},
		{"nvidia.nemotron-super-3-120b", "nvidia", 1, 32768},
		{"stability.stable-image-ultra-v1:1", "stability", 1, 0},

		{"anthropic.claude-sonnet-5-5", "anthropic", 0, 0}, // AWS has not said
		{"anthropic.claude-opus-6-20270101-v1:0", "anthropic", 0, 0},
		{"acme.model-v1:0", "", 0, 0},
		{"xx.anthropic.claude-sonnet-4-5-20250929-v1:0", "", 0, 0},
		{"arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "", 0, 0},
		{"arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc", "", 0, 0},
		{"arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/abc", "", 0, 0},
		{"", "", 0, 0},
	}
	for _, test := range tests {
		got := familyOf(test.modelID)
		if got.name != test.name || got.burndown != test.burndown || got.maxTokens != test.maxTokens {
			t.Errorf("familyOf(%q) = %q, %v, %d; want %q, %v, %d", test.modelID,
				got.name, got.burndown, got.maxTokens, test.name, test.burndown, test.maxTokens)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	models, err := ParseModels([]byte(`{
		"far":  {"routes": [{"model_id": "x", "region": "us-east-1", "tpm": 40000}, {"model_id": "x", "region": "us-west-2", "tpm": 60000}], "burndown": 1, "default_max_tokens": 64000},
		"one":  {"routes": [{"model_id": "y", "region": "us-east-1", "tpm": 40000}, {"model_id": "y", "region": "us-west-2", "tpm": 70000}], "burndown": 1, "default_max_tokens": 64000},
		"free": {"routes": [{"model_id": "z", "region": "us-east-1", "rpm": 1}], "burndown": 1, "default_max_tokens": 64000}}`))
	if err != nil {
		t.Fatal(err)
	}
	for fraction, want := range map[float64][]string{
		1: {"far.default_max_tokens: 64000 is above the tpm of every route, at most 60000 here: "},
		0.5: {
			"far.default_max_tokens: 64000 is above the tpm of every route, at most 30000 here: ",
			"one.default_max_tokens: 64000 is above the tpm of every route, at most 35000 here: ",
		},
	} {
		got := models.Warnings(fraction)
		for i := range got {
			got[i], _, _ = strings.Cut(got[i], "a job")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("of %v of the quotas (-want +got):\n%s", fraction, diff)
		}
	}
}

func FuzzParseModels(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(haiku))
	f.Add([]byte(`{"a": {"routes": [{"model_id": "x", "region": "us-east-1", "rpm": 1e3, "quota": "q"}], "burndown": 1, "default_max_tokens": 0, "fallback": ["a"]}}`))
	f.Add([]byte(`{"m": {"routes": [null, {}], "timeout": "1s", "fallback_after": null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		models, err := ParseModels(data)
		if err != nil {
			if models != nil || err.Error() == "" {
				t.Fatalf("ParseModels = %v, %q", models, err)
			}
			return
		}
		text, err := json.Marshal(models)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseModels(text)
		if err != nil {
			t.Fatalf("what was printed is refused: %v\n%s", err, text)
		}
		if diff := cmp.Diff(models, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}
