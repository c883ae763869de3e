package objectstore

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// fallbackRegion is where AWS puts what names no region, and what other servers expect unless they
// were told otherwise.
const fallbackRegion = "us-east-1"

// regionTimeout bounds the look-up of a bucket's region, for which a job waits.
const regionTimeout = 5 * time.Second

// s3Endpoint is how requests reach a bucket.
type s3Endpoint struct {
	// url is empty for AWS itself, whose addresses follow from region and bucket.
	url string
	// region is empty if it has to be found out.
	region     string
	insecure   bool
	pathStyle  bool
	dualStack  bool
	accelerate bool
}

func newS3Endpoint(c *config.CacheS3) (s3Endpoint, error) {
	e := s3Endpoint{insecure: c.Insecure, accelerate: c.Accelerate, region: c.BucketLocation}
	scheme := "https"
	if c.Insecure {
		scheme = "http"
	}
	address := strings.ToLower(c.ServerAddress)
	if address != "" {
		if err := checkAddress("ServerAddress", address); err != nil {
			return s3Endpoint{}, err
		}
		address = canonicalAddress(scheme, address)
	}
	switch address {
	case "":
		e.dualStack = c.DualStack == nil || *c.DualStack
	case "s3.amazonaws.com":
	case "s3-accelerate.amazonaws.com":
		e.accelerate = true
	case "s3-accelerate.dualstack.amazonaws.com":
		e.accelerate, e.dualStack = true, true
	default:
		e.url = scheme + "://" + address
		e.pathStyle = !namesBuckets(address, c.BucketName, c.Insecure)
		if e.region == "" {
			e.region = regionOf(address)
		}
	}
	if c.PathStyle != nil {
		e.pathStyle = *c.PathStyle
	}
	switch {
	case e.accelerate && e.url != "":
		return s3Endpoint{}, errors.New("config Accelerate works with AWS only: leave ServerAddress or Accelerate out")
	case e.accelerate && e.pathStyle:
		return s3Endpoint{}, errors.New("config Accelerate and PathStyle exclude each other: leave one of them out")
	}
	return e, nil
}

// regionalAddress is that of one of AWS's regions.
var regionalAddress = regexp.MustCompile(`^s3[.-](?:dualstack\.)?([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$`)

// regionOf returns the region that a server's address names, or what servers take in place of one.
func regionOf(address string) string {
	if found := regionalAddress.FindStringSubmatch(address); found != nil {
		return found[1]
	}
	return fallbackRegion
}

// namesBuckets tells whether a server is known to serve each bucket under a name of its own.
func namesBuckets(address, bucket string, insecure bool) bool {
	if !insecure && strings.Contains(bucket, ".") {
		// A certificate for *.server does not cover a.b.server.
		return false
	}
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	host = "." + host
	for _, domain := range []string{".amazonaws.com", ".amazonaws.com.cn", ".storage.googleapis.com", ".aliyuncs.com"} {
		if strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}

func (e s3Endpoint) apply(o *s3.Options) {
	o.UsePathStyle = e.pathStyle
	o.UseAccelerate = e.accelerate
	o.EndpointOptions.DisableHTTPS = e.insecure
	o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
	if e.dualStack {
		o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
	}
	if e.url != "" {
		o.BaseEndpoint = aws.String(e.url)
	}
}

// findRegion asks AWS where a bucket is, which needs no credentials.
func (e s3Endpoint) findRegion(ctx context.Context, cfg aws.Config, bucket string, log logrus.FieldLogger) string {
	preferred := cfg.Region
	if preferred == "" {
		preferred = fallbackRegion
	}
	ctx, stop := context.WithTimeout(ctx, regionTimeout)
	defer stop()
	cfg.Region = preferred
	client := s3.NewFromConfig(cfg, e.apply, func(o *s3.Options) {
		o.Credentials = aws.AnonymousCredentials{}
		o.UseAccelerate = false
	})
	head, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(bucket)})
	if err == nil && head.BucketRegion != nil {
		return *head.BucketRegion
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.HTTPResponse() != nil {
		if region := response.HTTPResponse().Header.Get("x-amz-bucket-region"); region != "" {
			return region
		}
	}
	log.WithError(err).Warningf("the region of the cache's bucket is not known, %s is assumed: set BucketLocation in [runners.cache.s3]", preferred)
	return preferred
}
