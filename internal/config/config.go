// Package config turns the environment into a typed, checked configuration,
// and reports everything that is wrong with it at once. It is the only package
// that knows the names of the SLUICE_ variables and the JSON of the models; it
// opens no connection and does not check that a queue or a bucket exists (the
// drainer's preflight does). cmd/*, internal/drainer and internal/enqueue call
// it. It may import job, envconfig and the standard library.
package config

//go:generate go test -run ^TestDocumentation$ . -update

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Config is the effective configuration of a drainer. Each field is one
// variable; the tags are the source of its name, default and documentation.
//
// Tags: envconfig is the variable; default its default; shown what the
// documentation prints in place of the default; empty says that a variable set
// to nothing differs from one that is not set; desc is the documentation.
type Config struct {
	Name             string        `envconfig:"SLUICE_NAME" default:"sluice" desc:"This deployment: the Service dimension of every metric."`
	QueueURLs        []string      `envconfig:"SLUICE_QUEUE_URLS" shown:"required" desc:"Job queues in order of priority, comma-separated. Standard queues only."`
	DLQURL           string        `envconfig:"SLUICE_DLQ_URL" shown:"required to run" desc:"The queue that buried jobs go to: one for all queues; the source is an attribute."`
	Models           Models        `envconfig:"SLUICE_MODELS" shown:"required, or the next" desc:"The models and their routes, as JSON (below)."`
	ModelsFile       string        `envconfig:"SLUICE_MODELS_FILE" desc:"A file that holds the same JSON."`
	Results          Location      `envconfig:"SLUICE_RESULTS_S3" shown:"required" desc:"Where results go: s3://bucket/prefix/."`
	ResultsQueueURL  string        `envconfig:"SLUICE_RESULTS_QUEUE_URL" desc:"A queue that gets a copy of each result, at least once."`
	Payloads         *Location     `envconfig:"SLUICE_PAYLOADS_S3" desc:"The only prefix from which payload pointers are read: s3://bucket/prefix/. Disjoint from the results."`
	QuotaFraction    float64       `envconfig:"SLUICE_QUOTA_FRACTION" default:"1" desc:"The part of each quota that this drainer may use. N independent drainers use 1/N each."`
	MaxInFlight      int           `envconfig:"SLUICE_MAX_IN_FLIGHT" default:"1024" desc:"Invocations at once, all routes together. SlotBoundSeconds says when this, and not the quota, is the limit."`
	MaxInFlightBytes int64         `envconfig:"SLUICE_MAX_IN_FLIGHT_BYTES" shown:"a quarter of the memory limit; 256 MiB where there is none" desc:"Bytes of bodies and unsaved outputs held at once; at least 33554432 (32 MiB). A larger job waits until it fits."`
	Visibility       time.Duration `envconfig:"SLUICE_VISIBILITY" default:"120s" desc:"Visibility timeout asked for with every receive and extended at half-life; whole seconds, 10s to 6h. A job whose drainer was killed waits this long."`
	Hold             time.Duration `envconfig:"SLUICE_HOLD" default:"20s" desc:"A wait for quota up to this is spent holding the job; a longer one releases it to the queue. 0s to 1h."`
	MaxReceives      int           `envconfig:"SLUICE_MAX_RECEIVES" default:"50" desc:"A delivery received more often is buried: it kills the process. At least 21, because releases are renewed from 20 on."`
	Grace            time.Duration `envconfig:"SLUICE_GRACE" default:"25s" desc:"Time between the stop signal and the last release; at least 10s, and below the platform's kill (30 s on ECS and Kubernetes unless raised)."`
	MetricsNamespace string        `envconfig:"SLUICE_METRICS_NAMESPACE" default:"Sluice" empty:"off" desc:"CloudWatch namespace. Set to nothing, it turns CloudWatch off."`
	MetricsPeriod    time.Duration `envconfig:"SLUICE_METRICS_PERIOD" default:"60s" desc:"Time between two publications to CloudWatch; whole seconds, 1s to 1h."`
	MetricsDetail    string        `envconfig:"SLUICE_METRICS_DETAIL" default:"model" desc:"model, or route to publish series per route to CloudWatch too. Every series is paid for."`
	PacingTrace      string        `envconfig:"SLUICE_PACING_TRACE" desc:"A file to which what happens on each ledger is appended, a JSON object a line, up to 64 MiB: sizes and times, nothing of a job's content. docs/pacing.md tells how to replay it."`
	AdminAddr        string        `envconfig:"SLUICE_ADMIN_ADDR" default:"127.0.0.1:8080" desc:"Listen address of health, readiness, status and /metrics."`
	LogLevel         slog.Level    `envconfig:"SLUICE_LOG_LEVEL" default:"info" desc:"debug, info, warn or error."`
	LogFormat        string        `envconfig:"SLUICE_LOG_FORMAT" default:"auto" desc:"json, text, or auto: text where standard error is a terminal, json elsewhere."`
}

// prefix marks the variables that are ours. A variable that has it and is not
// in Config is a mistake: a misspelt SLUICE_QOUTA_FRACTION must not run at the
// whole quota.
const prefix = "SLUICE_"

// foreign are entries with our prefix that others set: our own tests, and
// Kubernetes, which describes each service of the namespace (one called
// "sluice" becomes SLUICE_SERVICE_HOST, SLUICE_PORT=tcp://..., ...).
var foreign = regexp.MustCompile(`^SLUICE_(TEST_\w*=` +
	`|(\w+_)?SERVICE_(HOST|PORT(_\w+)?)=` +
	`|(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=` +
	`|(\w+_)?PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://)`)

// Load reads the configuration from an environment in the form of os.Environ.
// The error joins one error for each problem, each beginning with the name of
// the variable. The Config beside an error holds what could be read: good for
// Table, not for running.
func Load(environ []string) (Config, error) {
	c, found := load(environ)
	return c, found.err()
}

// LoadForRun is Load and ForRun in one, with the problems of both at once.
func LoadForRun(environ []string) (Config, error) {
	c, found := load(environ)
	return c, append(found, c.checkRun()...).err()
}

func load(environ []string) (Config, problems) {
	c := Config{MaxInFlightBytes: defaultInFlightBytes(memoryLimit())}
	var found problems
	env := ours(environ)

	for i, f := range variables() {
		name := f.Tag.Get("envconfig")
		text, set := given(f, env)
		delete(env, name)
		if !set {
			text = f.Tag.Get("default")
		}
		if text == "" {
			continue
		}
		v, err := decode(f, text)
		if err != nil {
			found.add(name, err)
			continue
		}
		reflect.ValueOf(&c).Elem().Field(i).Set(v)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		found.addf(name, "no such variable; docs/configuration.md has the list")
	}

	if c.ModelsFile != "" {
		if err := c.readModels(); err != nil {
			found.add("SLUICE_MODELS_FILE", err)
		}
	}
	for _, p := range c.check() {
		// What could not be read has been reported, and its zero value is not
		// what the operator wrote.
		if !found.about(p.where) {
			found = append(found, p)
		}
	}
	return c, found
}

// ForRun reports what a drainer that is to run needs beyond a configuration
// that can be shown.
func (c Config) ForRun() error {
	return append(c.check(), c.checkRun()...).err()
}

// checkRun finds what keeps a drainer from running, and nobody from looking at
// its configuration.
func (c Config) checkRun() (ps problems) {
	if c.DLQURL == "" {
		ps.addf("SLUICE_DLQ_URL", "must be set: without it a job that can never succeed has nowhere to go")
	}
	return ps
}

func (c *Config) readModels() error {
	if c.Models != nil {
		return errors.New("SLUICE_MODELS is set too; which one holds?")
	}
	data, err := os.ReadFile(c.ModelsFile)
	if err != nil {
		return err
	}
	c.Models, err = ParseModels(data)
	return err
}

// ours are the variables of environ with our prefix, but for the foreign ones.
func ours(environ []string) map[string]string {
	env := make(map[string]string)
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, prefix) && !foreign.MatchString(entry) {
			env[name] = text
		}
	}
	return env
}

// given is what env gives the variable of field f, and whether it does. Compose
// files and task definitions set what they leave open to nothing: but where the
// tag says otherwise, that is not set.
func given(f reflect.StructField, env map[string]string) (string, bool) {
	text, set := env[f.Tag.Get("envconfig")]
	if _, meant := f.Tag.Lookup("empty"); text == "" && !meant {
		return "", false
	}
	return text, set
}

// variables are the fields of Config, in order.
func variables() []reflect.StructField {
	return slices.Collect(reflect.TypeFor[Config]().Fields())
}

// decode reads text as envconfig reads the variable of field f. envconfig
// itself stops at the first error and reads nothing but the environment of the
// process; given a struct of this one field, the text as its default, and a
// variable that no environment can hold, it does one field at a time, from
// anywhere.
func decode(f reflect.StructField, text string) (reflect.Value, error) {
	f.Tag = reflect.StructTag(`envconfig:"=" default:` + strconv.Quote(text))
	one := reflect.New(reflect.StructOf([]reflect.StructField{f}))
	err := envconfig.Process("", one.Interface())
	if parse, ok := errors.AsType[*envconfig.ParseError](err); ok {
		switch err = parse.Err; f.Type.Kind() {
		case reflect.Map, reflect.Struct, reflect.Pointer: // ours, with words of their own
		default:
			err = fmt.Errorf("must be %s, not %q", noun(f.Type), text)
		}
	}
	return one.Elem().Field(0), err
}
