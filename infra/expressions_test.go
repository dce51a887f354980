package infra_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Metric math and the states of alarms, as far as the module uses them and as
// AWS documents them: no emulator evaluates an alarm on an expression.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html

// points are a series, the newest last.
type points []float64

// none is a value that is missing.
var none = math.NaN()

// evaluate is the series of an expression. Metric math is near enough to Go for
// Go's parser: only AND is another word.
func evaluate(expression string, metrics map[string]points) (points, error) {
	parsed, err := parser.ParseExpr(strings.ReplaceAll(expression, " AND ", " && "))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	m := mathematics{metrics: metrics}
	result := m.value(parsed)
	if m.err != nil {
		return nil, fmt.Errorf("%s: %w", expression, m.err)
	}
	if len(result) < 2 {
		return nil, fmt.Errorf("%s: a number, and no series", expression)
	}
	return result, nil
}

// mathematics evaluates one expression. A series of one value is a number.
type mathematics struct {
	metrics map[string]points
	err     error // the first
}

func (m *mathematics) fail(e ast.Node) points {
	if m.err == nil {
		m.err = fmt.Errorf("%T is not known here", e)
	}
	return points{none}
}

func (m *mathematics) value(e ast.Expr) points {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return m.value(e.X)
	case *ast.BasicLit:
		if n, err := strconv.ParseFloat(e.Value, 64); err == nil {
			return points{n}
		}
	case *ast.Ident:
		if series, ok := m.metrics[e.Name]; ok {
			return series
		}
	case *ast.BinaryExpr:
		if op, ok := operators[e.Op]; ok {
			return both(m.value(e.X), m.value(e.Y), op)
		}
	case *ast.CallExpr:
		name, _ := e.Fun.(*ast.Ident)
		switch {
		case name != nil && name.Name == "IF" && len(e.Args) == 3:
			condition, yes, no := m.value(e.Args[0]), m.value(e.Args[1]), m.value(e.Args[2])
			result := make(points, len(condition))
			for i, c := range condition {
				switch {
				case math.IsNaN(c):
					result[i] = none
				case c != 0:
					result[i] = zeroed(yes.at(i))
				default:
					result[i] = zeroed(no.at(i))
				}
			}
			return result
		case name != nil && name.Name == "FILL" && len(e.Args) == 2:
			filled := slices.Clone(m.value(e.Args[0]))
			how, _ := e.Args[1].(*ast.Ident)
			for i, v := range filled {
				switch {
				case !math.IsNaN(v):
				case how == nil:
					filled[i] = m.value(e.Args[1]).at(i)
				case how.Name == "REPEAT" && i > 0:
					filled[i] = filled[i-1]
				}
			}
			return filled
		}
	}
	return m.fail(e)
}

// at is a series' value at a place, and a number's anywhere.
func (v points) at(i int) float64 {
	if len(v) == 1 {
		return v[0]
	}
	return v[i]
}

// zeroed is a value, or 0 where it is missing.
func zeroed(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

var operators = map[token.Token]func(a, b float64) float64{
	token.ADD: func(a, b float64) float64 { return a + b },
	token.SUB: func(a, b float64) float64 { return a - b },
	token.MUL: func(a, b float64) float64 { return a * b },
	token.QUO: func(a, b float64) float64 {
		if b == 0 {
			return none // "the data point is dropped"
		}
		return a / b
	},
	token.GTR:  func(a, b float64) float64 { return truth(a > b) },
	token.LSS:  func(a, b float64) float64 { return truth(a < b) },
	token.GEQ:  func(a, b float64) float64 { return truth(a >= b) },
	token.LAND: func(a, b float64) float64 { return truth(a != 0 && b != 0) },
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// both applies an operator. Where one of two series has a value, the other's
// missing one is 0; a number does not make up for a series.
func both(a, b points, op func(a, b float64) float64) points {
	result := make(points, max(len(a), len(b)))
	for i := range result {
		x, y := a.at(i), b.at(i)
		silentA, silentB := math.IsNaN(x) || len(a) == 1, math.IsNaN(y) || len(b) == 1
		if silentA && silentB && (math.IsNaN(x) || math.IsNaN(y)) {
			result[i] = none
			continue
		}
		result[i] = op(zeroed(x), zeroed(y))
	}
	return result
}

// expression is what the alarm looks at, where that is not one metric.
func (a alarm) expression() string {
	for _, q := range a.Queries {
		if q.Expression != "" {
			return q.Expression
		}
	}
	return ""
}

// state is the alarm's after it has seen a series. How far back CloudWatch looks
// for values in place of missing ones it does not say but by example, two for an
// alarm of three periods; so here, and a third for longer ones. What is left out is
// the premature alarm where missing data count as missing: only the scaling alarms
// treat them so.
func (a alarm) state(series points) string {
	var seen points
	for _, v := range series[max(0, len(series)-a.Periods-max(2, a.Periods/3)):] {
		if !math.IsNaN(v) {
			seen = append(seen, v)
		}
	}
	if len(seen) == 0 && a.Missing == "missing" {
		return "INSUFFICIENT_DATA"
	}
	breaching := 0
	for _, v := range seen[max(0, len(seen)-a.Periods):] {
		if (v <= a.Threshold) == (a.Comparison == "LessThanOrEqualToThreshold") {
			breaching++
		}
	}
	if a.Missing == "breaching" {
		breaching += max(0, a.Periods-len(seen))
	}
	if breaching >= a.Periods {
		return "ALARM"
	}
	return "OK"
}

// The examples of AWS's pages.
func TestEvaluator(t *testing.T) {
	t.Parallel()
	metrics := map[string]points{"m1": {30, 20, 0, 0}, "m2": {20, none, 20, none}, "gone": {none, none, none, none}}
	for expression, want := range map[string]string{
		"m1<m2":                         "[0 0 1 0]",
		"m1>=30":                        "[1 0 0 0]",
		"m1>15 AND m2>15":               "[1 0 0 0]",
		"m1+m2":                         "[50 20 20 0]",
		"m2/m1":                         "[0.6666666666666666 0 NaN NaN]",
		"5*m2":                          "[100 NaN 100 NaN]",
		"FILL(m2,10)":                   "[20 10 20 10]",
		"FILL(m2,REPEAT)":               "[20 20 20 20]",
		"FILL(gone,REPEAT)":             "[NaN NaN NaN NaN]",
		"IF(m1>20,m2,1)":                "[20 1 1 1]",
		"gone<1":                        "[NaN NaN NaN NaN]",
		"IF(m1>20 AND gone<1,1,0)":      "[0 0 0 0]",
		"IF(m1>20 AND 0*m1+gone<1,1,0)": "[1 0 0 0]",
	} {
		got, err := evaluate(expression, metrics)
		if err != nil || fmt.Sprint([]float64(got)) != want {
			t.Errorf("%s: %v, %v; want %s", expression, got, err, want)
		}
	}
	for _, wrong := range []string{"m1+", "m3", "SUM(m1)", "5", "IF(m1,1)"} {
		if got, err := evaluate(wrong, metrics); err == nil {
			t.Errorf("%s: %v", wrong, got)
		}
	}
	x, o := 1.0, 0.0
	for _, tt := range []struct {
		series                  points
		missing, not, breaching string
	}{
		{points{o, none, x, none, x}, "OK", "OK", "OK"},
		{points{none, none, none, none, none}, "INSUFFICIENT_DATA", "OK", "ALARM"},
		{points{o, x, x, none, x}, "ALARM", "ALARM", "ALARM"},
		{points{o, none, none, none, none}, "OK", "OK", "OK"},
	} {
		for missing, want := range map[string]string{"missing": tt.missing, "notBreaching": tt.not, "breaching": tt.breaching} {
			if got := (alarm{Periods: 3, Missing: missing}).state(tt.series); got != want {
				t.Errorf("%v, missing is %s: %s, want %s", tt.series, missing, got, want)
			}
		}
	}
}

// times is a value that stays.
func times(n int, v float64) points { return slices.Repeat(points{v}, n) }

// late is a series of which the newest values have not come yet.
func late(n int, v points) points {
	v = slices.Clone(v)
	for i := range n {
		v[len(v)-1-i] = none
	}
	return v
}

// checkExpressions shows the alarms on expressions data as they come: SQS's two
// minutes late, the drainer's one.
func checkExpressions(t *testing.T, made []resource) {
	t.Helper()
	const sqs, ours, span = 2, 1, 30
	every := func(n int) points { // one in so many minutes
		v := times(span, 0)
		for i := 0; i < span; i += n {
			v[i] = 1
		}
		return v
	}
	nothing, absent := times(span, 0), times(span, none)
	some := times(span, 2)
	since := func(minutes int, before, after float64) points {
		return append(times(span-minutes, before), times(minutes, after)...)
	}
	type metrics = map[string]points
	backlog := func(visible, taken points, more metrics) metrics {
		m := metrics{"waiting": late(sqs, visible), "taken": late(sqs, taken)}
		maps.Copy(m, more)
		return m
	}
	done := func(of points) metrics { // by the second of five models
		return metrics{"done0": late(ours, nothing), "done1": late(ours, of), "done2": absent, "done3": absent, "done4": absent}
	}
	heard := func(v points) metrics { return metrics{"heard": late(ours, v)} }
	scaled := func(of int, v points) metrics { // of one of both queues' metrics
		m := metrics{}
		for i := range 6 {
			m[fmt.Sprintf("m%d%d", i/3, i%3)] = late(sqs, nothing)
		}
		m[fmt.Sprintf("m%d%d", of/3, of%3)] = late(sqs, v)
		return m
	}

	all := map[string]alarm{}
	for _, name := range []string{"sluice", "scaling"} {
		for _, a := range alarms(t, made, name) {
			all[strings.TrimPrefix(a.Name, "all-")] = a
		}
	}
	shown := map[string]bool{}
	for _, tt := range []struct {
		alarm, when string
		metrics     metrics
		rings       bool
	}{
		{"stuck-bulk", "nothing to do", backlog(nothing, nothing, done(nothing)), false},
		{"stuck-bulk", "at work", backlog(some, some, done(times(span, 9))), false},
		{"stuck-bulk", "slowly", backlog(nothing, some, done(every(7))), false},
		{"stuck-bulk", "none for a while", backlog(some, some, done(since(6, 9, 0))), false},
		{"stuck-bulk", "none for long", backlog(some, some, done(since(14, 9, 0))), true},
		{"stuck-bulk", "all in flight", backlog(nothing, some, done(nothing)), true},
		{"stuck-bulk", "no drainer", backlog(some, nothing, done(absent)), true},
		{"stuck-bulk", "drained", backlog(since(8, 2, 0), nothing, done(since(8, 9, 0))), false},
		{"stuck-bulk", "a queue that sleeps", backlog(absent, absent, done(nothing)), false},

		{"silent-urgent", "at work", backlog(some, some, heard(times(span, 1))), false},
		{"silent-urgent", "nothing to do, and none to do it", backlog(nothing, nothing, heard(absent)), false},
		{"silent-urgent", "a restart", backlog(some, nothing, heard(since(3, 1, none))), false},
		{"silent-urgent", "ended", backlog(some, nothing, heard(since(14, 1, none))), true},
		{"silent-urgent", "never heard", backlog(some, nothing, heard(absent)), true},

		{"capacity-embed", "no traffic", metrics{"errors": nothing, "answered": nothing}, false},
		{"capacity-embed", "well", metrics{"errors": times(span, 1), "answered": times(span, 99)}, false},
		{"capacity-embed", "a blip", metrics{"errors": since(3, 0, 50), "answered": times(span, 50)}, false},
		{"capacity-embed", "for long", metrics{"errors": late(ours, since(7, 0, 20)), "answered": late(ours, times(span, 80))}, true},
		{"capacity-embed", "nothing else", metrics{"errors": times(span, 3), "answered": nothing}, true},

		{"failures-sonnet", "no results", metrics{"failed": nothing, "succeeded": nothing}, false},
		{"failures-sonnet", "one in a hundred", metrics{"failed": times(span, 1), "succeeded": times(span, 99)}, false},
		{"failures-sonnet", "a bad job or two at a low quota", metrics{"failed": since(1, 0, 2), "succeeded": times(span, 40)}, false},
		{"failures-sonnet", "three of forty", metrics{"failed": since(1, 0, 3), "succeeded": times(span, 37)}, true},
		{"failures-sonnet", "a short run that fails", metrics{"failed": since(1, 0, 40), "succeeded": nothing}, true},
		{"failures-sonnet", "one job or two, and all fail", metrics{"failed": since(1, 0, 2), "succeeded": nothing}, true},
		{"failures-sonnet", "three in a hundred", metrics{"failed": times(span, 3), "succeeded": times(span, 97)}, true},

		{"scale-start", "nothing", scaled(0, nothing), false},
		{"scale-start", "a job", scaled(3, since(sqs+1, 0, 1)), true},
		{"scale-start", "delayed", scaled(2, since(sqs+1, 0, 1)), true},
		{"scale-start", "queues that sleep", metrics{"m00": absent, "m01": absent, "m02": absent, "m10": absent, "m11": absent, "m12": absent}, false},
		{"scale-stop", "nothing", scaled(0, nothing), true},
		{"scale-stop", "nothing for a while", scaled(0, since(12, 2, 0)), false},
		{"scale-stop", "in flight", scaled(4, some), false},
		{"scale-stop", "delayed", scaled(5, some), false},
	} {
		a, ok := all[tt.alarm]
		if !ok {
			t.Errorf("no alarm %s", tt.alarm)
			continue
		}
		expression := a.expression()
		series, err := evaluate(expression, tt.metrics)
		if err != nil {
			t.Error(err)
			continue
		}
		if state := a.state(series); (state == "ALARM") != tt.rings {
			t.Errorf("%s, %s: %s\n%s\n%v", tt.alarm, tt.when, state, expression, series)
		}
		kind, _, _ := strings.Cut(tt.alarm, "-")
		shown[kind] = true
	}
	for name, a := range all {
		if kind, _, _ := strings.Cut(name, "-"); a.Metric == "" && !shown[kind] {
			t.Errorf("%s: nobody evaluates its expression", name)
		}
	}
}
