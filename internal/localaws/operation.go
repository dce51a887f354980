package localaws

import (
	"net/http"
	"strings"
)

// Paths of the services that are not told by a header. A bucket of the same
// name can't be reached.
const (
	bedrockPath    = "/model/"
	cloudwatchPath = "/service/GraniteServiceVersion20100801/operation/"
)

// serviceOf tells which service a request is for.
func serviceOf(r *http.Request) string {
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		return "SQS"
	case strings.HasPrefix(r.URL.Path, bedrockPath):
		return "Bedrock"
	case strings.HasPrefix(r.URL.Path, cloudwatchPath):
		return "CloudWatch"
	default:
		return "S3"
	}
}

// Operation names the API call that a request makes, such as
// "SQS.ReceiveMessage", "S3.HeadObject", "CloudWatch.PutMetricData" or
// "Bedrock.Converse".
func Operation(r *http.Request) string {
	service := serviceOf(r)
	switch service {
	case "SQS":
		return service + "." + strings.TrimPrefix(r.Header.Get("X-Amz-Target"), sqsTarget)
	case "Bedrock":
		return service + "." + bedrockOperations[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	case "CloudWatch":
		return service + "." + strings.TrimPrefix(r.URL.Path, cloudwatchPath)
	default:
		return service + "." + s3Operation(r)
	}
}

// bedrockOperations maps the end of a path to the operation.
var bedrockOperations = map[string]string{
	"converse":                    "Converse",
	"converse-stream":             "ConverseStream",
	"invoke":                      "InvokeModel",
	"invoke-with-response-stream": "InvokeModelWithResponseStream",
	"count-tokens":                "CountTokens",
}

// S3's operations by method: on a key, on an upload of a key, on a bucket.
var (
	onKey = map[string]string{
		http.MethodGet: "GetObject", http.MethodPut: "PutObject", http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject",
	}
	onUpload = map[string]string{
		http.MethodGet: "ListParts", http.MethodPut: "UploadPart", http.MethodPost: "CompleteMultipartUpload", http.MethodDelete: "AbortMultipartUpload",
	}
	onBucket = map[string]string{
		http.MethodGet: "ListObjects", http.MethodPut: "CreateBucket", http.MethodHead: "HeadBucket", http.MethodDelete: "DeleteBucket",
		http.MethodPost: "DeleteObjects",
	}
)

func s3Operation(r *http.Request) string {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch query := r.URL.RawQuery; {
	case bucket == "":
		return "ListBuckets"
	case key == "" && strings.Contains(query, "list-type=2"):
		return "ListObjectsV2"
	case key == "":
		return onBucket[r.Method]
	case strings.Contains(query, "uploadId="):
		return onUpload[r.Method]
	case strings.Contains(query, "uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	default:
		return onKey[r.Method]
	}
}
