package coordinator_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// Each case breaks one rule in an otherwise correct conversation.
func TestEveryBreachIsNotedUnderItsRule(t *testing.T) {
	tests := map[string]struct {
		rules  []string
		status int
		breach func(cl *client) response
	}{
		"user agent": {[]string{"headers"}, 204, func(cl *client) response {
			return cl.jobRequest(nil, map[string]string{"User-Agent": "curl/8"})
		}},
		"request id": {[]string{"headers"}, 204, func(cl *client) response {
			return cl.jobRequest(nil, map[string]string{"X-Request-Id": "1"})
		}},
		"content type": {[]string{"headers"}, 204, func(cl *client) response {
			return cl.jobRequest(nil, map[string]string{"Content-Type": "text/plain"})
		}},
		"accept": {[]string{"headers"}, 204, func(cl *client) response {
			return cl.jobRequest(nil, map[string]string{"Accept": ""})
		}},
		"body is no json": {[]string{"body"}, 400, func(cl *client) response {
			header := map[string]string{"RUNNER-TOKEN": cl.token, "Content-Type": "application/json", "Accept": "application/json"}
			return cl.send("POST", cl.c.URL()+"/api/v4/jobs/request", header, []byte("{"))
		}},
		"body too long": {[]string{"body"}, 400, func(cl *client) response {
			return cl.jobRequest(func(body map[string]any) { body["more"] = strings.Repeat("x", 1<<20) }, nil)
		}},
		"unknown call": {[]string{"body"}, 404, func(cl *client) response { return cl.api("GET", "jobs", nil, nil) }},
		"token header differs": {[]string{"identity"}, 204, func(cl *client) response {
			return cl.jobRequest(nil, map[string]string{"RUNNER-TOKEN": "other"})
		}},
		"system id": {[]string{"identity"}, 204, func(cl *client) response {
			return cl.jobRequest(func(body map[string]any) { body["system_id"] = "machine" }, nil)
		}},
		"feature missing": {[]string{"info"}, 204, func(cl *client) response {
			delete(cl.features, "masking")
			return cl.jobRequest(nil, nil)
		}},
		"feature must be true": {[]string{"info"}, 204, func(cl *client) response {
			cl.features["trace_checksum"] = false
			return cl.jobRequest(nil, nil)
		}},
		"feature no boolean": {[]string{"info"}, 204, func(cl *client) response {
			cl.features["masking"] = "yes"
			return cl.jobRequest(nil, nil)
		}},
		"label malformed": {[]string{"info"}, 204, func(cl *client) response {
			return cl.jobRequest(func(body map[string]any) {
				info := cl.info()
				info["labels"] = map[string]string{"re gion": "eu"}
				body["info"] = info
			}, nil)
		}},
		"queue version invented": {[]string{"last-update"}, 204, func(cl *client) response {
			return cl.jobRequest(func(body map[string]any) { body["last_update"] = "1755849000-bd2f" }, nil)
		}},
		"queue version never echoed": {[]string{"last-update"}, 204, func(cl *client) response {
			for range 11 {
				cl.jobRequest(nil, nil)
			}
			return cl.jobRequest(nil, nil)
		}},
		"trace before confirmation": {[]string{"commit"}, 403, func(cl *client) response {
			return cl.patch(cl.withJob(false), 0, "x")
		}},
		"success before confirmation": {[]string{"commit"}, 200, func(cl *client) response {
			return cl.update(cl.withJob(false), "success", output(""))
		}},
		"update with wrong token": {[]string{"job-token"}, 403, func(cl *client) response {
			job := cl.withJob(true)
			job.Token = "glcbt-64_wrong"
			return cl.update(job, "running", nil)
		}},
		"token header of update differs": {[]string{"job-token"}, 200, func(cl *client) response {
			job := cl.withJob(true)
			return cl.api("PUT", fmt.Sprintf("jobs/%d", job.ID), map[string]string{"JOB-TOKEN": "x"},
				map[string]any{"info": cl.info(), "token": job.Token, "state": "running"})
		}},
		"update of unknown job": {[]string{"job-token"}, 403, func(cl *client) response {
			return cl.update(payload{ID: 1, Token: "x"}, "running", nil)
		}},
		"trace with wrong token": {[]string{"job-token"}, 403, func(cl *client) response {
			job := cl.withJob(true)
			job.Token = "glcbt-64_wrong"
			return cl.patch(job, 0, "x")
		}},
		"hole in the trace": {[]string{"trace-range"}, 416, func(cl *client) response {
			return cl.patch(cl.withJob(true), 1, "x")
		}},
		"chunk sent again": {[]string{"trace-range"}, 416, func(cl *client) response {
			job := cl.withJob(true)
			cl.patch(job, 0, "x")
			return cl.patch(job, 0, "xy")
		}},
		"chunk before the last sent again": {[]string{"trace-range"}, 416, func(cl *client) response {
			job := cl.withJob(true)
			cl.patch(job, 0, "x")
			cl.patch(job, 1, "y")
			return cl.patch(job, 0, "x")
		}},
		"exclusive end": {[]string{"trace-range"}, 400, func(cl *client) response {
			return cl.patchRaw(cl.withJob(true), "0-1", "x")
		}},
		"range missing": {[]string{"trace-range"}, 400, func(cl *client) response {
			return cl.patchRaw(cl.withJob(true), "", "x")
		}},
		"range with unit": {[]string{"trace-range"}, 400, func(cl *client) response {
			return cl.patchRaw(cl.withJob(true), "bytes 0-0/1", "x")
		}},
		"empty chunk": {[]string{"trace-range"}, 400, func(cl *client) response {
			return cl.patchRaw(cl.withJob(true), "0-0", "")
		}},
		"chunk too long": {[]string{"trace-range"}, 400, func(cl *client) response {
			return cl.patch(cl.withJob(true), 0, strings.Repeat("x", 1<<20+1))
		}},
		"debug_trace missing": {[]string{"trace-range"}, 202, func(cl *client) response {
			job := cl.withJob(true)
			return cl.send("PATCH", fmt.Sprintf("%s/api/v4/jobs/%d/trace", cl.c.URL(), job.ID),
				map[string]string{"JOB-TOKEN": job.Token, "Content-Type": "text/plain", "Content-Range": "0-0"}, []byte("x"))
		}},
		"checksum": {[]string{"trace-content"}, 412, func(cl *client) response {
			job := cl.withJob(true)
			cl.patch(job, 0, "abc")
			return cl.update(job, "success", output("abd"))
		}},
		"size": {[]string{"trace-content"}, 412, func(cl *client) response {
			job := cl.withJob(true)
			cl.patch(job, 0, "abc")
			return cl.update(job, "success", output("abcd"))
		}},
		"no checksum": {[]string{"trace-content"}, 412, func(cl *client) response {
			job := cl.withJob(true)
			cl.patch(job, 0, "abc")
			return cl.update(job, "success", nil)
		}},
		"invalid utf-8": {[]string{"trace-content"}, 412, func(cl *client) response {
			job := cl.withJob(true)
			cl.patch(job, 0, "a\xff")
			return cl.update(job, "success", output("a\xff"))
		}},
		"unknown state": {[]string{"update"}, 400, func(cl *client) response {
			return cl.update(cl.withJob(true), "canceled", nil)
		}},
		"failed without reason": {[]string{"update"}, 200, func(cl *client) response {
			return cl.update(cl.withJob(true), "failed", output(""))
		}},
		"unannounced reason": {[]string{"update"}, 200, func(cl *client) response {
			return cl.update(cl.withJob(true), "failed", failed("", "bad_luck", 1))
		}},
		"success with exit code": {[]string{"update"}, 200, func(cl *client) response {
			return cl.update(cl.withJob(true), "success", map[string]any{"exit_code": 1})
		}},
		"exit code zero": {[]string{"update"}, 200, func(cl *client) response {
			return cl.update(cl.withJob(true), "failed", map[string]any{"failure_reason": "script_failure", "exit_code": 0})
		}},
		"keep-alive while running": {[]string{"update"}, 400, func(cl *client) response {
			return cl.update(cl.withJob(true), "pending", nil)
		}},
		"update after the end": {[]string{"stopped"}, 403, func(cl *client) response {
			job := cl.withJob(true)
			cl.update(job, "success", nil)
			return cl.update(job, "success", nil)
		}},
		"artifact of undeclared type": {[]string{"artifacts"}, 201, func(cl *client) response {
			job := cl.withJob(true)
			return cl.upload(artifactsURL(cl.c, job.ID), job.Token, "", "a.zip", zipOf(cl.t, "a", "b"))
		}},
		"download without token": {[]string{"job-token"}, 401, func(cl *client) response {
			return cl.send("GET", artifactsURL(cl.c, cl.withJob(true).ID), nil, nil)
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := start(t, coordinator.Config{})
			answer := test.breach(newClient(t, c))
			require.NoError(t, answer.err)
			require.Equal(t, test.status, answer.status, string(answer.body))
			require.Equal(t, test.rules, breaches(c), c.Violations())
		})
	}
}

// jobRequest asks for a job with a body and headers to be broken.
func (cl *client) jobRequest(change func(map[string]any), header map[string]string) response {
	cl.t.Helper()
	body := map[string]any{"info": cl.info(), "token": cl.token, "system_id": cl.systemID}
	if change != nil {
		change(body)
	}
	all := map[string]string{"RUNNER-TOKEN": cl.token}
	for key, value := range header {
		all[key] = value
	}
	return cl.api("POST", "jobs/request", all, body)
}

// withJob enqueues and takes a job.
func (cl *client) withJob(confirmed bool) payload {
	cl.t.Helper()
	enqueue(cl.t, cl.c, coordinator.JobSpec{})
	if confirmed {
		return cl.takeRunning()
	}
	return cl.take()
}

// A client that gave up on a request and sends its chunk again is not to blame; one that had the answer is, which shows
// when it goes on using the connection that brought it.
func TestAChunkIsSentAgainWithoutBlameOnlyIfTheAnswerDidNotArrive(t *testing.T) {
	for name, test := range map[string]struct {
		// again says which chunk is sent again over another connection.
		again int
		// used are the connections that carry another request: the one of the last chunk, the one of its repetition.
		first, second bool
		blamed        bool
	}{
		"the answer may be lost":                      {again: 1},
		"the repetition may be late":                  {again: 1, first: true},
		"the first answer may be lost":                {again: 1, second: true},
		"both were answered":                          {again: 1, first: true, second: true, blamed: true},
		"the repetition of an older one may be late":  {again: 0, first: true},
		"the repetition of an older one was answered": {again: 0, second: true, blamed: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, coordinator.Config{})
			first, second := newClient(t, c), newClient(t, c)
			job := first.withJob(true)
			for i := range 2 {
				require.Equal(t, http.StatusAccepted, first.patch(job, i, "x").status)
			}
			answer := second.patch(job, test.again, "x")
			require.Equal(t, http.StatusRequestedRangeNotSatisfiable, answer.status)
			require.Equal(t, "0-2", answer.header.Get("Range"))
			require.Empty(t, c.Violations())
			for cl, used := range map[*client]bool{first: test.first, second: test.second} {
				if used {
					require.Equal(t, http.StatusOK, cl.update(job, "running", nil).status)
				}
			}
			if test.blamed {
				require.Equal(t, []string{"trace-range"}, breaches(c))
			} else {
				require.Empty(t, c.Violations())
			}
		})
	}
}

func TestToleratedRulesAreNotNoted(t *testing.T) {
	c := start(t, coordinator.Config{Tolerate: []coordinator.Rule{coordinator.RuleHeaders}})
	newClient(t, c).jobRequest(nil, map[string]string{"User-Agent": "curl/8"})
	require.Empty(t, c.Violations())
}

func TestLegacyRegistration(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	register := func(token, tags string, untagged bool) response {
		return cl.api("POST", "runners", map[string]string{"RUNNER-TOKEN": token}, map[string]any{
			"token": token, "tag_list": tags, "run_untagged": untagged, "description": "d", "maximum_timeout": 60,
			"locked": true, "paused": false, "info": cl.info(),
		})
	}
	answer := register(c.RegistrationToken(), "a, b", false)
	require.Equal(t, http.StatusCreated, answer.status)
	var credentials struct {
		ID      int64
		Token   string
		Expires *time.Time `json:"token_expires_at"`
	}
	require.NoError(t, json.Unmarshal(answer.body, &credentials))
	require.True(t, strings.HasPrefix(credentials.Token, "glrtr-"))
	require.Nil(t, credentials.Expires)
	registered := c.Runners()[1]
	require.Equal(t, credentials.ID, registered.ID)
	require.Equal(t, []string{"a", "b"}, registered.Tags)
	require.Equal(t, time.Minute, registered.MaximumTimeout)
	require.True(t, registered.Locked)

	require.Equal(t, http.StatusForbidden, register("GR1348941wrong", "a", false).status)
	require.Equal(t, http.StatusBadRequest, register(c.RegistrationToken(), "", false).status)
	require.Empty(t, c.Violations())
}

func TestRunnerLifeCycle(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	cl.token = c.AddRunner(coordinator.RunnerSpec{ExpiresAt: time.Now().Add(time.Hour), RunUntagged: true})
	call := func(method, path string, extra map[string]any) response {
		body := map[string]any{"token": cl.token}
		for key, value := range extra {
			body[key] = value
		}
		return cl.api(method, path, map[string]string{"RUNNER-TOKEN": cl.token}, body)
	}
	verify := func() response {
		return call("POST", "runners/verify", map[string]any{"info": cl.info(), "system_id": cl.systemID})
	}
	answer := verify()
	require.Equal(t, http.StatusOK, answer.status)
	require.Contains(t, string(answer.body), `"id":2`)
	require.NotContains(t, string(answer.body), `"token_expires_at":null`)

	require.Equal(t, http.StatusBadRequest, call("DELETE", "runners/managers", nil).status)
	require.Equal(t, http.StatusNotFound, call("DELETE", "runners/managers", map[string]any{"system_id": "s_000000000000"}).status)
	require.Equal(t, http.StatusNoContent, call("DELETE", "runners/managers", map[string]any{"system_id": cl.systemID}).status)
	require.Empty(t, c.Runners()[1].Managers)

	discovery := cl.send("GET", c.URL()+"/api/v4/runners/router/discovery", map[string]string{"RUNNER-TOKEN": cl.token}, nil)
	require.Equal(t, http.StatusNotImplemented, discovery.status)

	reset := func(answer response) {
		t.Helper()
		require.Equal(t, http.StatusCreated, answer.status)
		require.Equal(t, http.StatusForbidden, verify().status, "the old token is void")
		var credentials struct {
			Token   string
			Expires time.Time `json:"token_expires_at"`
		}
		require.NoError(t, json.Unmarshal(answer.body, &credentials))
		require.True(t, strings.HasPrefix(credentials.Token, "glrt-t3_"))
		require.Greater(t, time.Until(credentials.Expires), 24*time.Hour)
		cl.token = credentials.Token
		require.Equal(t, http.StatusOK, verify().status)
	}
	reset(call("POST", "runners/reset_authentication_token", nil))
	reset(cl.api("POST", "runners/2/reset_authentication_token", map[string]string{"PRIVATE-TOKEN": c.PersonalAccessToken()}, nil))
	wrong := cl.api("POST", "runners/2/reset_authentication_token", map[string]string{"PRIVATE-TOKEN": "x"}, nil)
	require.Equal(t, http.StatusForbidden, wrong.status)

	require.Equal(t, http.StatusNoContent, call("DELETE", "runners", nil).status)
	require.Equal(t, http.StatusForbidden, verify().status)
	require.Empty(t, c.Violations())
}

func TestFaultsAreMadeAndExcused(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})

	busy := c.Inject(coordinator.Fault{Endpoint: coordinator.EndpointRequestJob, Status: 429, Header: http.Header{"Retry-After": {"1"}}})
	status, _ := cl.request()
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, 1, busy.Hits())

	got := cl.takeRunning()
	lost := coordinator.Fault{Endpoint: coordinator.EndpointPatchTrace, Job: job, LoseAnswer: true}
	c.Inject(lost)
	require.Error(t, cl.patch(got, 0, "abc").err)
	answer := cl.patch(got, 0, "abc")
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, answer.status, "the chunk had arrived")
	require.Equal(t, "0-3", answer.header.Get("Range"))
	require.Equal(t, http.StatusAccepted, cl.patch(got, 3, "d").status)

	require.NoError(t, job.TruncateTrace(1))
	require.Error(t, job.TruncateTrace(2))
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, cl.patch(got, 4, "e").status)
	require.Equal(t, http.StatusAccepted, cl.patch(got, 1, "bcde").status)

	final := coordinator.Fault{Endpoint: coordinator.EndpointUpdateJob, FinalOnly: true, Status: 202, Times: 2,
		Header: http.Header{"X-GitLab-Trace-Update-Interval": {"1"}}}
	c.Inject(final)
	require.Equal(t, http.StatusOK, cl.update(got, "running", nil).status)
	for range 2 {
		answer = cl.update(got, "success", output("abcde"))
		require.Equal(t, http.StatusAccepted, answer.status)
		require.Equal(t, "1", answer.header.Get("X-GitLab-Trace-Update-Interval"))
	}
	c.Inject(coordinator.Fault{Endpoint: coordinator.EndpointUpdateJob, FinalOnly: true, Status: 412})
	require.Equal(t, http.StatusPreconditionFailed, cl.update(got, "success", output("abcde")).status)
	require.Equal(t, http.StatusAccepted, cl.patch(got, 0, "abcde").status, "after 412 everything is sent again")

	c.Inject(coordinator.Fault{Endpoint: coordinator.EndpointUpdateJob, LoseAnswer: true})
	require.Error(t, cl.update(got, "success", output("abcde")).err)
	require.Equal(t, coordinator.StateSuccess, job.State())
	require.Equal(t, http.StatusForbidden, cl.update(got, "success", output("abcde")).status)
	require.Empty(t, c.Violations())
}

func TestLostHandoutIsRepeatedWithoutBlame(t *testing.T) {
	c := start(t, coordinator.Config{CommitTimeout: 300 * time.Millisecond})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})
	c.Inject(coordinator.Fault{Endpoint: coordinator.EndpointRequestJob, LoseAnswer: true})
	status, _ := cl.request()
	require.Zero(t, status)
	require.Eventually(t, func() bool { return job.Token() == "" }, soon, time.Millisecond)
	require.Equal(t, job.ID(), cl.takeRunning().ID)
	require.Empty(t, c.Violations())
}

func TestFaultsWithDelayBodyAndCut(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	c.Inject(coordinator.Fault{Endpoint: coordinator.EndpointRequestJob, Delay: 50 * time.Millisecond, Status: 500, Body: []byte("{}")})
	began := time.Now()
	answer := cl.jobRequest(nil, nil)
	require.Equal(t, "{}", string(answer.body))
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)

	cut := c.Inject(coordinator.Fault{Endpoint: coordinator.EndpointRequestJob, LoseRequest: true, Times: 1000})
	require.Error(t, cl.jobRequest(nil, nil).err)
	cut.Remove()
	outage := c.Inject(coordinator.Fault{Status: 502, Times: 1000})
	require.Equal(t, http.StatusBadGateway, cl.jobRequest(nil, nil).status)
	require.Equal(t, http.StatusBadGateway, cl.send("GET", c.URL()+"/group/app.git/info/refs", nil, nil).status)
	outage.Remove()
	require.Equal(t, http.StatusNoContent, cl.jobRequest(nil, nil).status)
	requests := c.Requests()
	require.Equal(t, 500, requests[0].Status)
	require.Equal(t, coordinator.EndpointRequestJob, requests[0].Endpoint)
}

func TestIgnoredRetryAfterIsNoted(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	got := cl.withJob(true)
	c.Inject(coordinator.Fault{Endpoint: coordinator.EndpointPatchTrace, Status: 503, Header: http.Header{"Retry-After": {"60"}}})
	require.Equal(t, http.StatusServiceUnavailable, cl.patch(got, 0, "x").status)
	cl.patch(got, 0, "x")
	require.Equal(t, []string{"retry-after"}, breaches(c))
}

func TestListensWhereToldAndAdvertisesAnotherHost(t *testing.T) {
	c := start(t, coordinator.Config{Listen: "0.0.0.0:0", AdvertiseHost: "localhost", RunnerToken: "glrt-mine", RegistrationToken: "GR1348941mine"})
	require.True(t, strings.HasPrefix(c.URL(), "http://localhost:"), c.URL())
	require.Equal(t, "glrt-mine", c.RunnerToken())
	require.Equal(t, "GR1348941mine", c.RegistrationToken())
	require.Equal(t, http.StatusNoContent, newClient(t, c).jobRequest(nil, nil).status)

	_, err := coordinator.Start(coordinator.Config{Listen: strings.TrimPrefix(c.URL(), "http://")})
	require.ErrorContains(t, err, "listen on localhost:")
}

func TestSpeaksTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)

	c := start(t, coordinator.Config{TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}})
	require.True(t, strings.HasPrefix(c.URL(), "https://"))
	cl := newClient(t, c)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	cl.http.Transport = transport
	require.Equal(t, http.StatusNoContent, cl.jobRequest(nil, nil).status)
}
