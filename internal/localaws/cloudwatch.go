package localaws

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// Limits of PutMetricData (aws-facts F2).
const (
	maxMetricBody   = 1 << 20
	maxMetricData   = 1000
	maxMetricValues = 150
	maxDimensions   = 30
	metricsPage     = 500 // ListMetrics
)

// Datum is one value that CloudWatch received, and how often it occurred.
type Datum struct {
	Namespace  string
	Name       string
	Dimensions map[string]string
	Unit       string
	Time       time.Time
	Value      float64 // of a statistic set: its mean
	Count      float64
}

// Metrics returns what was put into a namespace under a name, in the order in
// which it arrived. An empty name stands for all.
func (s *Server) Metrics(namespace, name string) []Datum {
	s.cloudwatch.mu.Lock()
	defer s.cloudwatch.mu.Unlock()
	var data []Datum
	for _, d := range s.cloudwatch.data {
		if d.Namespace == namespace && (name == "" || d.Name == name) {
			data = append(data, d.Datum)
		}
	}
	return data
}

// cloudwatchServer is the CloudWatch of one Server. It speaks Smithy RPC v2
// CBOR.
type cloudwatchServer struct {
	mu   sync.Mutex // guards what follows
	data []datum
}

// datum keeps, beside what tests see, the range that a statistic set covers.
type datum struct {
	Datum
	least, most float64
}

// series identifies a metric.
func (d *datum) series() string {
	var b strings.Builder
	b.WriteString(d.Namespace + "\n" + d.Name)
	for _, name := range slices.Sorted(maps.Keys(d.Dimensions)) {
		b.WriteString("\n" + name + "\n" + d.Dimensions[name])
	}
	return b.String()
}

func (c *cloudwatchServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := c.answer(r)
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	if known, ok := errors.AsType[*cloudwatchError](err); ok {
		w.Header().Set("X-Amzn-Query-Error", known.query+";Sender")
		w.WriteHeader(http.StatusBadRequest)
		out = cbor.Map{"__type": cbor.String("com.amazonaws.cloudwatch#" + known.shape), "message": cbor.String(known.message)}
	} else if err != nil {
		return // the client went away
	}
	if out != nil {
		_, _ = w.Write(cbor.Encode(out)) // the client went away
	}
}

type cloudwatchError struct{ shape, query, message string }

func (e *cloudwatchError) Error() string { return e.query + ": " + e.message }

func invalidValue(format string, args ...any) error {
	return &cloudwatchError{"InvalidParameterValueException", "InvalidParameterValue", fmt.Sprintf(format, args...)}
}

func (c *cloudwatchServer) answer(r *http.Request) (cbor.Value, error) {
	switch operation := strings.TrimPrefix(r.URL.Path, cloudwatchPath); operation {
	case "PutMetricData":
		return decoded(r, c.put)
	case "GetMetricData":
		return decoded(r, c.get)
	case "ListMetrics":
		return decoded(r, c.list)
	default:
		return nil, &cloudwatchError{"InvalidAction", "InvalidAction", "localaws does not implement " + operation + "."}
	}
}

// decoded reads a request and hands it on. CBOR goes by way of JSON, for which
// Go has structs; a minute brings one request.
func decoded[In any](r *http.Request, do func(In) (cbor.Value, error)) (cbor.Value, error) {
	if r.ContentLength > maxMetricBody {
		return nil, &cloudwatchError{"RequestEntityTooLarge", "RequestEntityTooLarge", "The request is larger than 1 MB."}
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, invalidValue("The body is not gzip: %v", err)
		}
		body = unzipped
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	value, err := cbor.Decode(raw)
	if err != nil {
		return nil, invalidValue("The body is not CBOR: %v", err)
	}
	text, err := json.Marshal(plain(value))
	if err != nil {
		return nil, invalidValue("A value is no number: %v", err) // NaN, infinity
	}
	var in In
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, invalidValue("%v", err)
	}
	return do(in)
}

// plain turns a CBOR value into one that encoding/json knows. A time becomes
// seconds since 1970.
func plain(v cbor.Value) any {
	switch v := v.(type) {
	case cbor.Map:
		m := make(map[string]any, len(v))
		for name, member := range v {
			m[name] = plain(member)
		}
		return m
	case cbor.List:
		l := make([]any, len(v))
		for i, member := range v {
			l[i] = plain(member)
		}
		return l
	case *cbor.Tag:
		return plain(v.Value)
	case cbor.String:
		return string(v)
	case cbor.Bool:
		return bool(v)
	}
	if f, err := cbor.AsFloat64(v); err == nil {
		return f
	}
	return nil
}

type dimension struct{ Name, Value string }

type metricDatum struct {
	MetricName      string
	Dimensions      []dimension
	Timestamp       *float64
	Unit            string
	Value           *float64
	Values, Counts  []float64
	StatisticValues *struct{ SampleCount, Sum, Minimum, Maximum float64 }
}

// put stores a request's data, or none of it.
func (c *cloudwatchServer) put(in struct {
	Namespace  string
	MetricData []metricDatum
}) (cbor.Value, error) {
	switch {
	case in.Namespace == "":
		return nil, &cloudwatchError{"MissingRequiredParameterException", "MissingParameter", "The parameter Namespace is required."}
	case strings.HasPrefix(in.Namespace, "AWS/"):
		return nil, invalidValue("The value AWS/ for parameter Namespace is invalid.")
	case len(in.MetricData) > maxMetricData:
		return nil, invalidValue("The collection MetricData must not have a size greater than %d.", maxMetricData)
	}
	now := time.Now()
	var data []datum
	for i, m := range in.MetricData {
		values, err := m.data(in.Namespace, now)
		if err != nil {
			return nil, invalidValue("MetricData.member.%d: %v", i+1, err)
		}
		data = append(data, values...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = append(c.data, data...)
	return nil, nil
}

// data returns one datum for each value.
func (m metricDatum) data(namespace string, now time.Time) ([]datum, error) {
	d := datum{Datum: Datum{
		Namespace: namespace, Name: m.MetricName, Dimensions: make(map[string]string), Unit: cmp.Or(m.Unit, "None"), Time: now,
	}}
	if m.Timestamp != nil {
		d.Time = fromSeconds(*m.Timestamp)
	}
	for _, dim := range m.Dimensions {
		if dim.Name == "" || dim.Value == "" {
			return nil, errors.New("a dimension needs a name and a value")
		}
		d.Dimensions[dim.Name] = dim.Value
	}
	given := 0
	for _, is := range []bool{m.Value != nil, m.Values != nil, m.StatisticValues != nil} {
		if is {
			given++
		}
	}
	switch {
	case m.MetricName == "" || len(m.MetricName) > 255:
		return nil, errors.New("MetricName must be 1 to 255 characters long")
	case len(m.Dimensions) > maxDimensions:
		return nil, fmt.Errorf("more than %d dimensions", maxDimensions)
	case len(m.Values) > maxMetricValues:
		return nil, fmt.Errorf("more than %d values", maxMetricValues)
	case m.Counts != nil && len(m.Counts) != len(m.Values):
		return nil, errors.New("Values and Counts must have the same length")
	case given != 1:
		return nil, errors.New("exactly one of Value, Values and StatisticValues is needed")
	case d.Time.Before(now.AddDate(0, 0, -14)) || d.Time.After(now.Add(2*time.Hour)):
		return nil, errors.New("Timestamp must be between two weeks ago and two hours ahead")
	}
	if s := m.StatisticValues; s != nil {
		d.Value, d.Count, d.least, d.most = s.Sum/s.SampleCount, s.SampleCount, s.Minimum, s.Maximum
		return []datum{d}, nil
	}
	if m.Value != nil {
		m.Values = []float64{*m.Value}
	}
	data := make([]datum, len(m.Values))
	for i, v := range m.Values {
		d.Value, d.Count, d.least, d.most = v, 1, v, v
		if m.Counts != nil {
			d.Count = m.Counts[i]
		}
		data[i] = d
	}
	return data, nil
}

func fromSeconds(s float64) time.Time {
	whole, part := math.Modf(s)
	return time.Unix(int64(whole), int64(math.Round(part*1000))*int64(time.Millisecond))
}

func toSeconds(t time.Time) cbor.Value {
	return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(t.UnixMilli()) / 1000)}
}

type getMetricData struct {
	StartTime, EndTime float64
	ScanBy             string
	MetricDataQueries  []struct {
		Id, Label, Expression string
		ReturnData            *bool
		MetricStat            *metricStat
	}
}

type metricStat struct {
	Metric struct {
		Namespace, MetricName string
		Dimensions            []dimension
	}
	Period     int64
	Stat, Unit string
}

// get answers each query with one value for each period that has data.
func (c *cloudwatchServer) get(in getMetricData) (cbor.Value, error) {
	start, end := fromSeconds(in.StartTime), fromSeconds(in.EndTime)
	if !start.Before(end) {
		return nil, &cloudwatchError{"ValidationException", "ValidationError", "The parameter StartTime must be less than the parameter EndTime."}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	results := cbor.List{}
	for _, q := range in.MetricDataQueries {
		if q.MetricStat == nil || q.Expression != "" {
			return nil, &cloudwatchError{"ValidationException", "ValidationError", "localaws evaluates MetricStat only, no expressions."}
		}
		times, values, err := c.statistic(*q.MetricStat, start, end)
		if err != nil {
			return nil, err
		}
		if in.ScanBy != "TimestampAscending" {
			slices.Reverse(times)
			slices.Reverse(values)
		}
		if q.ReturnData != nil && !*q.ReturnData {
			continue
		}
		results = append(results, cbor.Map{
			"Id": cbor.String(q.Id), "Label": cbor.String(cmp.Or(q.Label, q.MetricStat.Metric.MetricName)),
			"StatusCode": cbor.String("Complete"), "Timestamps": times, "Values": values,
		})
	}
	return cbor.Map{"MetricDataResults": results}, nil
}

// statistic computes one over each period from start until before end. The
// caller holds mu.
func (c *cloudwatchServer) statistic(q metricStat, start, end time.Time) (times, values cbor.List, err error) {
	reduce, err := reduction(q.Stat)
	if err != nil {
		return nil, nil, err
	}
	if q.Period < 1 || q.Period > 86400 || q.Period%60 != 0 && !slices.Contains([]int64{1, 5, 10, 20, 30}, q.Period) {
		return nil, nil, invalidValue("Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
	}
	wanted := datum{Datum: Datum{Namespace: q.Metric.Namespace, Name: q.Metric.MetricName, Dimensions: make(map[string]string)}}
	for _, d := range q.Metric.Dimensions {
		wanted.Dimensions[d.Name] = d.Value
	}
	series := wanted.series()
	periods := make(map[int64][]datum)
	for _, d := range c.data {
		at := d.Time.Unix() / q.Period * q.Period
		if at < start.Unix()/q.Period*q.Period || !time.Unix(at, 0).Before(end) || q.Unit != "" && q.Unit != d.Unit || d.series() != series {
			continue
		}
		periods[at] = append(periods[at], d)
	}
	times, values = cbor.List{}, cbor.List{}
	for _, at := range slices.Sorted(maps.Keys(periods)) {
		if v, ok := reduce(periods[at]); ok {
			times = append(times, toSeconds(time.Unix(at, 0)))
			values = append(values, cbor.Float64(v))
		}
	}
	return times, values, nil
}

// reduction returns the function behind a statistic's name. It tells whether
// the data of a period, of which there is some, allow the statistic.
func reduction(stat string) (func([]datum) (float64, bool), error) {
	total := func(of func(datum) float64) func([]datum) (float64, bool) {
		return func(data []datum) (sum float64, ok bool) {
			for _, d := range data {
				sum += of(d)
			}
			return sum, true
		}
	}
	count := total(func(d datum) float64 { return d.Count })
	sum := total(func(d datum) float64 { return d.Value * d.Count })
	switch stat {
	case "SampleCount":
		return count, nil
	case "Sum":
		return sum, nil
	case "Average":
		return func(data []datum) (float64, bool) {
			s, _ := sum(data)
			n, _ := count(data)
			return s / n, n > 0
		}, nil
	case "Minimum":
		return func(data []datum) (float64, bool) {
			return slices.MinFunc(data, func(a, b datum) int { return cmp.Compare(a.least, b.least) }).least, true
		}, nil
	case "Maximum":
		return func(data []datum) (float64, bool) {
			return slices.MaxFunc(data, func(a, b datum) int { return cmp.Compare(a.most, b.most) }).most, true
		}, nil
	}
	if p, err := strconv.ParseFloat(strings.TrimPrefix(stat, "p"), 64); err == nil && stat[0] == 'p' && p >= 0 && p <= 100 {
		return func(data []datum) (float64, bool) { return percentile(data, p) }, nil
	}
	return nil, invalidValue("The value %s for parameter Stat is not one that localaws knows.", stat)
}

// percentile is the least value that at least p percent of the samples do not
// exceed. Statistic sets that cover a range have none.
func percentile(data []datum, p float64) (float64, bool) {
	n := 0.0
	for _, d := range data {
		if d.least != d.most {
			return 0, false
		}
		n += d.Count
	}
	slices.SortFunc(data, func(a, b datum) int { return cmp.Compare(a.Value, b.Value) })
	below := 0.0
	for _, d := range data {
		if below += d.Count; below >= n*p/100 {
			return d.Value, true
		}
	}
	return 0, false
}

type listMetrics struct {
	Namespace, MetricName, NextToken string
	Dimensions                       []dimension // without a value: any
}

// list returns the metrics that match, a page of them.
func (c *cloudwatchServer) list(in listMetrics) (cbor.Value, error) {
	skip := 0
	if in.NextToken != "" {
		var err error
		if skip, err = strconv.Atoi(in.NextToken); err != nil || skip < 0 {
			return nil, &cloudwatchError{"InvalidNextToken", "InvalidNextToken", "The next token is invalid."}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := make(map[string]datum)
	for _, d := range c.data {
		if in.Namespace != "" && in.Namespace != d.Namespace || in.MetricName != "" && in.MetricName != d.Name {
			continue
		}
		if slices.ContainsFunc(in.Dimensions, func(f dimension) bool {
			v, ok := d.Dimensions[f.Name]
			return !ok || f.Value != "" && f.Value != v
		}) {
			continue
		}
		found[d.series()] = d
	}
	names := slices.Sorted(maps.Keys(found))
	names = names[min(skip, len(names)):]
	out := cbor.Map{}
	if len(names) > metricsPage {
		names = names[:metricsPage]
		out["NextToken"] = cbor.String(strconv.Itoa(skip + metricsPage))
	}
	metrics := cbor.List{}
	for _, name := range names {
		d := found[name]
		dimensions := cbor.List{}
		for _, n := range slices.Sorted(maps.Keys(d.Dimensions)) {
			dimensions = append(dimensions, cbor.Map{"Name": cbor.String(n), "Value": cbor.String(d.Dimensions[n])})
		}
		metrics = append(metrics, cbor.Map{
			"Namespace": cbor.String(d.Namespace), "MetricName": cbor.String(d.Name), "Dimensions": dimensions,
		})
	}
	out["Metrics"] = metrics
	return out, nil
}
