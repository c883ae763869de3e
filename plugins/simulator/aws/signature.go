package aws

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// errSignature is what AWS says of a signature that does not fit.
var errSignature = errors.New("the request signature we calculated does not match the signature you provided")

// scope is what a signature says about its request.
type scope struct{ service, region string }

// checkSignature signs the request anew and compares.
func (c *Cloud) checkSignature(r *http.Request, body []byte) (scope, error) {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return scope{}, errors.New("the request is not signed")
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[key] = value
	}
	credential := strings.Split(fields["Credential"], "/")
	if len(credential) != 5 || credential[0] != c.options.AccessKey {
		return scope{}, errors.New("the access key is not known")
	}
	signed := scope{service: credential[3], region: credential[2]}
	if signed.region != c.options.Region {
		return scope{}, fmt.Errorf("credential should be scoped to %q, not to %q", c.options.Region, signed.region)
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 15*time.Minute {
		return scope{}, errors.New("signature expired")
	}
	again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return scope{}, err
	}
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	sum := sha256.Sum256(body)
	key := aws.Credentials{AccessKeyID: c.options.AccessKey, SecretAccessKey: c.options.SecretKey}
	if err := v4.NewSigner().SignHTTP(r.Context(), key, again, hex.EncodeToString(sum[:]), signed.service, signed.region, at); err != nil {
		return scope{}, err
	}
	_, want, _ := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	if subtle.ConstantTimeCompare([]byte(want), []byte(fields["Signature"])) != 1 {
		return scope{}, errSignature
	}
	return signed, nil
}
