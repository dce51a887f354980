package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluicehq/sluice/job"
)

// Models are the configured models by alias. Nothing else is ever invoked.
type Models map[string]Model

// Model is what answers for an alias: its routes are one pool.
type Model struct {
	Routes []Route
	// Burndown is how many tokens of quota an output token costs.
	Burndown float64
	// DefaultMaxTokens is what a request that sets no bound on its output
	// reserves, in tokens; 0 where the model has no output tokens.
	DefaultMaxTokens int64
	// MaxInFlight bounds the invocations of this model at once; 0 is no bound of
	// its own.
	MaxInFlight int
	// Timeout is the longest that one invocation may take.
	Timeout time.Duration
	// Fallback names the aliases to try when this model is exhausted.
	Fallback []string
	// FallbackAfter is how long after its first enqueueing a job that merely
	// waits for quota goes to the fallback; 0 is never.
	FallbackAfter time.Duration
	// Family is equal for models that understand the same InvokeModel body: such
	// a body falls back within one family only. Where it cannot be told it is the
	// model ID, which equals nothing else.
	Family string
}

// Route is one place that can answer for a model, and its quota.
type Route struct {
	job.Route
	// Quota names the ledger together with the Region: the model ID unless named.
	Quota string
	// RPM and TPM are the quota per minute; 0 is no limit of that kind.
	RPM, TPM float64
	// Unpaced has no quota: its pace is learned from throttles.
	Unpaced bool
}

const (
	// defaultTimeout is long enough for the longest answers of today's models.
	// Shorter, and answers are paid for and thrown away.
	defaultTimeout = 15 * time.Minute
	// maxTimeout is AWS's own: "inference calls may take up to 60 minutes"
	// (Nova's request schema). Longer, and a hanging call holds a slot for nothing.
	maxTimeout = time.Hour
	// maxPerMinute and maxBurndown are far above any quota and rate of AWS (6e6
	// tokens, 15) and keep the arithmetic of tokens far below 2^63.
	maxPerMinute = 1e12
	maxBurndown  = 1000
)

// models is the JSON of Models; modelJSON and routeJSON are its objects, whose
// tags are the source of the documentation. A pointer is a field that may be
// absent: an explicit "tpm": 0 must not pass for "no limit".
type models map[string]modelJSON

type modelJSON struct {
	Routes           []routeJSON `json:"routes" shown:"required" desc:"The places that can answer, one pool: a job goes to the one that can start it first."`
	Burndown         *float64    `json:"burndown,omitempty" shown:"by family" desc:"Tokens of quota that an output token costs."`
	DefaultMaxTokens *int64      `json:"default_max_tokens,omitempty" shown:"by family" desc:"Tokens that a request without a max_tokens of its own reserves; 0 for a model without output tokens."`
	MaxInFlight      *int        `json:"max_in_flight,omitempty" desc:"Invocations of this model at once."`
	Timeout          *duration   `json:"timeout,omitempty" shown:"15m" desc:"The longest that an invocation may take, 1s to 1h; a longer one counts as unavailable."`
	Fallback         []string    `json:"fallback,omitempty" desc:"Models to try, in order, when this one is exhausted for the day or its routes' breakers are open. Not followed transitively; invoke bodies within one family only."`
	FallbackAfter    *duration   `json:"fallback_after,omitempty" shown:"never" desc:"Fall back also after waiting this long for quota, counted from the first enqueueing."`
}

type routeJSON struct {
	ModelID string   `json:"model_id" shown:"required" desc:"Model ID, inference profile or ARN, as Bedrock takes it."`
	Region  string   `json:"region" shown:"required" desc:"The Region that is called: the quota's and the bill's."`
	RPM     *float64 `json:"rpm,omitempty" desc:"Requests per minute. Absent: not limited."`
	TPM     *float64 `json:"tpm,omitempty" desc:"Tokens per minute. Absent: not limited. One of the two is needed."`
	Quota   string   `json:"quota,omitempty" shown:"the model_id" desc:"Routes of one Region and quota share one ledger; their numbers must agree."`
	Unpaced bool     `json:"unpaced,omitempty" shown:"false" desc:"In place of rpm and tpm: capacity of its own (provisioned throughput), limited by max_in_flight and learned from throttles."`
}

var (
	// aliasForm also takes model IDs, and keeps the Model dimension printable.
	aliasForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-\d+$`)
	modelIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]*$`)
)

// ParseModels reads the JSON of the models. The error joins one error for each
// problem, each beginning with the path of the field: for what can't be read, and
// when all can be, for what is wrong with the values.
func ParseModels(data []byte) (Models, error) {
	if err := syntax(data); err != nil {
		return nil, err
	}
	var d decoder
	var in models
	d.read("", data, reflect.ValueOf(&in).Elem())
	if len(d.problems) > 0 {
		// What follows would complain about fields that were not read.
		return nil, d.err()
	}
	var ps problems
	if len(in) == 0 {
		ps.addf("", "must name at least one model")
	}
	out := make(Models, len(in))
	for _, alias := range slices.Sorted(maps.Keys(in)) {
		out[alias] = in[alias].resolve(alias, &ps)
	}
	out.checkFallbacks(&ps)
	out.checkQuotas(&ps)
	if len(ps) > 0 {
		return nil, ps.err()
	}
	return out, nil
}

// Warnings says what a drainer that may use this fraction of the quotas can run
// with, but hardly as somebody meant it; each begins with the path of the field.
func (m Models) Warnings(fraction float64) (warnings []string) {
	for _, alias := range slices.Sorted(maps.Keys(m)) {
		var most float64
		for _, r := range m[alias].Routes {
			if most = max(most, r.TPM*fraction); r.TPM == 0 {
				most = math.Inf(1)
			}
		}
		if n := m[alias].DefaultMaxTokens; float64(n) > most {
			warnings = append(warnings, fmt.Sprintf(
				"%s.default_max_tokens: %d is above the tpm of every route, at most %.0f here: a job without max_tokens waits for a minute of its own, ten minutes and more", alias, n, most))
		}
	}
	return warnings
}

// Decode reads the value of a variable (envconfig.Decoder).
func (m *Models) Decode(s string) (err error) {
	*m, err = ParseModels([]byte(s))
	return err
}

// MarshalJSON writes the models with everything resolved, in the form that
// ParseModels reads.
func (m Models) MarshalJSON() ([]byte, error) {
	out := make(models, len(m))
	for alias, model := range m {
		j := modelJSON{
			Burndown: &model.Burndown, DefaultMaxTokens: &model.DefaultMaxTokens,
			MaxInFlight: present(model.MaxInFlight), Timeout: present(duration(model.Timeout)),
			Fallback: model.Fallback, FallbackAfter: present(duration(model.FallbackAfter)),
		}
		for _, r := range model.Routes {
			j.Routes = append(j.Routes, routeJSON{
				ModelID: r.ModelID, Region: r.Region, RPM: present(r.RPM), TPM: present(r.TPM),
				Quota: r.Quota, Unpaced: r.Unpaced,
			})
		}
		out[alias] = j
	}
	return json.Marshal(out)
}

// present is a pointer to v, nil for its zero value.
func present[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// Resolve finds the alias that a job means by name: an alias, or a model ID
// that exactly one alias serves.
func (m Models) Resolve(name string) (alias string, ok bool) {
	if _, ok := m[name]; ok {
		return name, true
	}
	for a, model := range m {
		serves := func(r Route) bool { return r.ModelID == name }
		if !slices.ContainsFunc(model.Routes, serves) {
			continue
		}
		if ok {
			return "", false
		}
		alias, ok = a, true
	}
	return alias, ok
}

func (in modelJSON) resolve(alias string, ps *problems) Model {
	out := Model{Timeout: defaultTimeout, Fallback: in.Fallback}
	if !aliasForm.MatchString(alias) {
		ps.addf(alias, "must be a name of 1 to 128 letters, digits and ._:/-")
	}

	if len(in.Routes) == 0 {
		ps.addf(alias+".routes", "must have at least one route")
	}
	seen := make(map[job.Route]bool)
	for i, r := range in.Routes {
		at := fmt.Sprintf("%s.routes[%d]", alias, i)
		route := r.resolve(at, ps)
		if seen[route.Route] {
			ps.addf(at, "stands there twice")
		}
		seen[route.Route] = true
		out.Routes = append(out.Routes, route)
	}
	in.resolveFamily(alias, &out, ps)

	if in.MaxInFlight != nil {
		if out.MaxInFlight = *in.MaxInFlight; out.MaxInFlight < 1 {
			ps.addf(alias+".max_in_flight", "must be at least 1")
		}
	}
	if in.Timeout != nil {
		out.Timeout = cmp.Or(time.Duration(*in.Timeout), defaultTimeout)
		if out.Timeout < time.Second || out.Timeout > maxTimeout {
			ps.addf(alias+".timeout", "must be 1s to %v", maxTimeout)
		}
	}
	if in.FallbackAfter != nil {
		if out.FallbackAfter = time.Duration(*in.FallbackAfter); out.FallbackAfter > 0 && len(in.Fallback) == 0 {
			ps.addf(alias+".fallback_after", "needs a fallback")
		}
	}
	return out
}

// resolveFamily fills in what the names of the routes' models tell, and asks
// for what they do not.
func (in modelJSON) resolveFamily(alias string, out *Model, ps *problems) {
	var untold []string // models whose name does not tell
	for i, r := range out.Routes {
		f := familyOf(r.ModelID)
		at := fmt.Sprintf("%s.routes[%d].model_id", alias, i)
		if f.name != "" && out.Family != "" && f.name != out.Family {
			ps.addf(at, "is of family %s beside %s: all routes of a model must understand the same request", f.name, out.Family)
		}
		if f.burndown == 0 {
			untold = append(untold, r.ModelID)
		} else if out.Burndown != 0 && f.burndown != out.Burndown && in.Burndown == nil {
			ps.addf(at, "has burndown %v beside %v: make them two models", f.burndown, out.Burndown)
		}
		out.Family = cmp.Or(out.Family, f.name)
		out.Burndown = cmp.Or(out.Burndown, f.burndown)
		out.DefaultMaxTokens = max(out.DefaultMaxTokens, f.maxTokens)
	}
	if out.Family == "" && len(out.Routes) > 0 {
		out.Family = out.Routes[0].ModelID
	}

	if in.Burndown != nil {
		if out.Burndown = *in.Burndown; out.Burndown <= 0 || out.Burndown > maxBurndown {
			ps.addf(alias+".burndown", "must be positive, at most %d", maxBurndown)
		}
	} else if untold != nil {
		ps.addf(alias+".burndown", "must be given: %s does not tell it", untold[0])
	}
	if in.DefaultMaxTokens != nil {
		if out.DefaultMaxTokens = *in.DefaultMaxTokens; out.DefaultMaxTokens < 0 {
			ps.addf(alias+".default_max_tokens", "must be 0 or more")
		}
	} else if untold != nil {
		ps.addf(alias+".default_max_tokens", "must be given: %s does not tell it", untold[0])
	}
}

func (in routeJSON) resolve(at string, ps *problems) Route {
	out := Route{
		Route:   job.Route{Region: in.Region, ModelID: in.ModelID},
		Quota:   cmp.Or(in.Quota, in.ModelID),
		Unpaced: in.Unpaced,
	}
	if !modelIDForm.MatchString(in.ModelID) || len(in.ModelID) > 2048 {
		ps.addf(at+".model_id", "must be a model ID, an inference profile or an ARN")
	}
	if !regionForm.MatchString(in.Region) {
		ps.addf(at+".region", "must be a Region such as us-east-1")
	} else if region := arnRegion(in.ModelID); region != "" && region != in.Region {
		ps.addf(at+".region", "must be %s, where the ARN is", region)
	} else if g := geographyOf(in.ModelID); !mayCall(in.Region, g) {
		ps.addf(at+".region", "must be a Region of %s. profiles", g)
	}
	if len(in.Quota) > 256 || strings.ContainsFunc(in.Quota, unprintable) {
		ps.addf(at+".quota", "must be printable ASCII without spaces, at most 256 bytes")
	}
	for _, n := range []struct {
		name string
		in   *float64
		out  *float64
	}{{"rpm", in.RPM, &out.RPM}, {"tpm", in.TPM, &out.TPM}} {
		if n.in == nil {
			continue
		}
		if *n.out = *n.in; *n.in <= 0 || *n.in > maxPerMinute {
			ps.addf(at+"."+n.name, "must be positive, at most %g", maxPerMinute)
		}
	}
	switch numbers := in.RPM != nil || in.TPM != nil; {
	case !numbers && !in.Unpaced:
		ps.addf(at, `must have rpm or tpm, or "unpaced": true`)
	case numbers && in.Unpaced:
		ps.addf(at, "is unpaced: rpm and tpm must be absent")
	}
	return out
}

// arnRegion is the Region in an ARN; empty where there is none.
func arnRegion(modelID string) string {
	if parts := strings.SplitN(modelID, ":", 5); parts[0] == "arn" && len(parts) == 5 {
		return parts[3]
	}
	return ""
}

// checkFallbacks resolves the names of the fallbacks to aliases.
func (m Models) checkFallbacks(ps *problems) {
	for _, alias := range slices.Sorted(maps.Keys(m)) {
		chain := m[alias].Fallback
		for i, name := range chain {
			at := fmt.Sprintf("%s.fallback[%d]", alias, i)
			to, ok := m.Resolve(name)
			switch {
			case !ok:
				ps.addf(at, "no such model: %q", name)
				continue
			case to == alias:
				ps.addf(at, "is the model itself")
			case slices.Contains(chain[:i], to):
				ps.addf(at, "stands there twice")
			}
			chain[i] = to
		}
	}
}

// checkQuotas holds routes that share a ledger, or a model, to the same
// numbers: else the order of the aliases would decide which hold.
func (m Models) checkQuotas(ps *problems) {
	type ledger struct{ region, quota string }
	type holder struct {
		at    string
		route Route
		model Model
	}
	ledgers := make(map[ledger]holder)
	served := make(map[job.Route]holder)
	for _, alias := range slices.Sorted(maps.Keys(m)) {
		for i, r := range m[alias].Routes {
			here := holder{fmt.Sprintf("%s.routes[%d]", alias, i), r, m[alias]}

			key := ledger{r.Region, r.Quota}
			if first, ok := ledgers[key]; !ok {
				ledgers[key] = here
			} else if o := first.route; o.RPM != r.RPM || o.TPM != r.TPM || o.Unpaced != r.Unpaced {
				ps.addf(here.at, "contradicts %s: both draw on quota %q in %s and must give the same rpm, tpm and unpaced",
					first.at, r.Quota, r.Region)
			}

			if first, ok := served[r.Route]; !ok {
				served[r.Route] = here
			} else if first.route.Quota != r.Quota {
				ps.addf(here.at+".quota", "contradicts %s: one model in one Region has one quota", first.at)
			} else if first.model.Burndown != here.model.Burndown {
				ps.addf(alias+".burndown", "contradicts %s: one model has one burndown", first.at)
			}
		}
	}
}

// syntax is nil for one JSON value and nothing else, or says where the text
// ceases to be one.
func syntax(data []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := string(data[:min(max(wrong.Offset-1, 0), int64(len(data)))])
		line := 1 + strings.Count(before, "\n")
		column := len(before) - strings.LastIndex(before, "\n")
		return fmt.Errorf("is no JSON: line %d, column %d: %w", line, column, wrong)
	}
	return err
}
