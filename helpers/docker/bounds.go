package docker

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// answerLimit bounds the answer to a plain call. The largest one that is wanted is a list of the
// containers of a busy engine.
const answerLimit = 32 << 20

// boundedTransport refuses to read answers without end. Streams are not plain answers; who reads them
// bounds what it keeps of them.
type boundedTransport struct {
	next http.RoundTripper
}

func (t *boundedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil || response.Body == nil || isStream(request.URL.Path) && response.StatusCode < http.StatusBadRequest {
		return response, err
	}
	response.Body = &boundedBody{ReadCloser: response.Body, left: answerLimit}
	return response, nil
}

func isStream(path string) bool {
	for _, suffix := range []string{"/logs", "/images/create", "/images/load", "/archive"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	return false
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("answer of the docker engine is longer than %d MiB", answerLimit>>20)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
