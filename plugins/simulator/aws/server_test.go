package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

const secret = "simulated"

func newAccount() *Cloud {
	return New(Options{
		Machines: &machines.Memory{}, Group: "g", MaxSize: 2, Region: "eu-west-1", AccessKey: "AKIDEXAMPLE", SecretKey: secret,
	})
}

// signed is a request with the signature of a user.
func signed(t testing.TB, key, secret, region, body string, at time.Time) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://aws.test/", strings.NewReader(body))
	sum := sha256.Sum256([]byte(body))
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secret},
		r, hex.EncodeToString(sum[:]), scalingService, region, at)
	require.NoError(t, err)
	return r
}

func send(c *Cloud, r *http.Request) (status int, text string) {
	answer := httptest.NewRecorder()
	c.ServeHTTP(answer, r)
	return answer.Code, answer.Body.String()
}

func TestOnlyRequestsSignedByTheUserAreCarriedOut(t *testing.T) {
	const body = "Action=SetDesiredCapacity&AutoScalingGroupName=g&DesiredCapacity=1"
	now := time.Now()
	another := signed(t, "AKIDEXAMPLE", secret, "eu-west-1", body, now)
	another.Body = io.NopCloser(strings.NewReader(strings.Replace(body, "=1", "=2", 1)))
	for name, c := range map[string]struct {
		request *http.Request
		says    string
	}{
		"no signature":   {httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)), "not signed"},
		"another key":    {signed(t, "AKIDOTHER", secret, "eu-west-1", body, now), "access key is not known"},
		"another secret": {signed(t, "AKIDEXAMPLE", "guess", "eu-west-1", body, now), errSignature.Error()},
		"another region": {signed(t, "AKIDEXAMPLE", secret, "us-east-1", body, now), "should be scoped to"},
		"another body":   {another, errSignature.Error()},
		"an old one":     {signed(t, "AKIDEXAMPLE", secret, "eu-west-1", body, now.Add(-time.Hour)), "signature expired"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newAccount()
			status, text := send(cloud, c.request)
			require.Equal(t, http.StatusForbidden, status)
			require.Contains(t, text, "AuthFailure")
			require.Contains(t, text, c.says)
			require.Zero(t, cloud.Desired())
		})
	}
	cloud := newAccount()
	status, text := send(cloud, signed(t, "AKIDEXAMPLE", secret, "eu-west-1", body, now))
	require.Equal(t, http.StatusOK, status, text)
	require.Equal(t, 1, cloud.Desired())
}

func TestRequestsThatAWSWouldRefuseAreRefused(t *testing.T) {
	for body, says := range map[string]string{
		"Action=DeleteAutoScalingGroup":                                                                 "InvalidAction",
		"Action=SetDesiredCapacity&AutoScalingGroupName=other&DesiredCapacity=1":                        "name not found",
		"Action=SetDesiredCapacity&AutoScalingGroupName=g&DesiredCapacity=3":                            "above max value 2",
		"Action=SetDesiredCapacity&AutoScalingGroupName=g&DesiredCapacity=x":                            "ValidationError",
		"Action=TerminateInstanceInAutoScalingGroup&InstanceId=i-0&ShouldDecrementDesiredCapacity=true": "Instance Id not found",
		"Action=%zz": "MalformedQueryString",
	} {
		cloud := newAccount()
		status, text := send(cloud, signed(t, "AKIDEXAMPLE", secret, "eu-west-1", body, time.Now()))
		require.Equal(t, http.StatusBadRequest, status, body)
		require.Contains(t, text, says)
		require.Zero(t, cloud.Desired())
	}
}

func TestACallWhoseAnswerIsLostIsCarriedOut(t *testing.T) {
	cloud := newAccount()
	cloud.Faults.Add(faults.Fault{Operation: "SetDesiredCapacity", Lost: true})
	status, _ := send(cloud, signed(t, "AKIDEXAMPLE", secret, "eu-west-1", "Action=SetDesiredCapacity&AutoScalingGroupName=g&DesiredCapacity=1", time.Now()))
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, 1, cloud.Desired())
}

func FuzzARequestThatIsNotSignedChangesNothing(f *testing.F) {
	const scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/autoscaling/aws4_request"
	f.Add(scope+", SignedHeaders=host;x-amz-date, Signature=00", "20260101T000000Z", "Action=SetDesiredCapacity&AutoScalingGroupName=g&DesiredCapacity=1")
	f.Add(scope, "", "")
	f.Add("AWS4-HMAC-SHA256 =,=/////,;", "x", "%")
	f.Fuzz(func(t *testing.T, authorization, date, body string) {
		cloud := newAccount()
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Amz-Date", date)
		status, _ := send(cloud, r)
		require.Equal(t, http.StatusForbidden, status)
		require.Zero(t, cloud.Desired())
	})
}
