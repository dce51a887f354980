package metrics

import (
	"net/http"
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves every sample in Prometheus's form, under names that begin with
// prefix, and what Go and the process tell of themselves.
func Handler(prefix string, source Source) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{prefix, source},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// collector turns samples into metrics at each scrape.
type collector struct {
	prefix string
	source Source
}

func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for i := range Table {
		if d := &Table[i]; d.Kind != Rate {
			descs <- d.desc(c.prefix)
		}
	}
}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	for _, s := range c.source() {
		if s.check() == nil { // else a programming error, which Check tells in tests
			metrics <- s.metric(c.prefix)
		}
	}
}

func (d *Definition) desc(prefix string) *prometheus.Desc {
	return prometheus.NewDesc(d.scraped(prefix), d.Help, d.labels(), nil)
}

func (d *Definition) labels() []string {
	labels := []string{"model", "route"}[:d.Per]
	if d.Label != "" {
		labels = append(labels, d.Label)
	}
	return labels
}

// scraped is a metric's name on /metrics: in snake case, with the unit and a
// counter's _total as Prometheus wants them.
func (d *Definition) scraped(prefix string) string {
	var name strings.Builder
	name.WriteString(prefix)
	for _, c := range d.Name {
		if unicode.IsUpper(c) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(c))
	}
	if unit := strings.ToLower(d.Unit); (unit == "seconds" || unit == "percent") && !strings.HasSuffix(name.String(), unit) {
		name.WriteString("_" + unit)
	}
	if d.Kind == Counter {
		name.WriteString("_total")
	}
	return name.String()
}

func (s Sample) metric(prefix string) prometheus.Metric {
	d := find(s.Name)
	desc := d.desc(prefix)
	values := []string{s.Model, s.Route}[:d.Per]
	if d.Label != "" {
		values = append(values, s.Label)
	}
	var m prometheus.Metric
	var err error
	switch d.Kind {
	case Counter:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.Value, values...)
	case Gauge:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.Value, values...)
	case Distribution:
		count, sum, below := s.histogram(d.Bounds)
		m, err = prometheus.NewConstHistogram(desc, count, sum, below, values...)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err) // the scrape says why
	}
	return m
}

// histogram returns how many values there were, their sum, and how many lay at
// or below each bound.
func (s Sample) histogram(bounds []float64) (count uint64, sum float64, below map[float64]uint64) {
	below = make(map[float64]uint64, len(bounds))
	for _, b := range s.Buckets {
		count += b.Count
		sum += b.Value * float64(b.Count)
	}
	for _, bound := range bounds {
		below[bound] = 0
		for _, b := range s.Buckets {
			if b.Value <= bound {
				below[bound] += b.Count
			}
		}
	}
	return count, sum, below
}
