package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// DownloadState is the outcome of DownloadArtifacts.
type DownloadState int

// The outcomes of a download. Only DownloadFailed is worth another try.
const (
	DownloadSucceeded DownloadState = iota
	DownloadForbidden
	DownloadUnauthorized
	DownloadNotFound
	DownloadFailed
)

// DownloadArtifacts writes the archive of the job (of whom job holds the id and token) to w. With
// direct, the server may send us on to its object storage, which is not shown the token. When it
// fails, w may have got a part of the archive.
func (c *Client) DownloadArtifacts(ctx context.Context, job JobCredentials, w io.Writer, direct bool) DownloadState {
	log := c.log.WithField("id", job.ID).WithField("token", shortToken(job.Token))
	query := url.Values{}
	if direct {
		query.Set("direct_download", "true")
	}
	answer := c.stream(ctx, job.credentials(), request{
		method: http.MethodGet,
		path:   fmt.Sprintf("jobs/%d/artifacts", job.ID),
		query:  query,
		// An archive is stored as it is wanted: nobody shall compress it on the way.
		header:    http.Header{headerJobToken: {job.Token}, "Accept-Encoding": {"identity"}},
		redirects: redirectsFollow,
	})
	defer answer.close()

	log = log.WithFields(answer.logFields())
	switch answer.status {
	case http.StatusOK:
		if _, err := io.Copy(w, answer.body); err != nil {
			log.WithError(describeCopy(err)).Error("Downloading artifacts from coordinator... failed")
			return DownloadFailed
		}
		log.Info("Downloading artifacts from coordinator... ok")
		return DownloadSucceeded
	case http.StatusForbidden:
		log.WithError(answer.problem()).Error("Downloading artifacts from coordinator... forbidden")
		return DownloadForbidden
	case http.StatusUnauthorized:
		log.WithError(answer.problem()).Error("Downloading artifacts from coordinator... unauthorized")
		return DownloadUnauthorized
	case http.StatusNotFound:
		log.WithError(answer.problem()).Error("Downloading artifacts from coordinator... not found")
		return DownloadNotFound
	default:
		log.WithError(answer.problem()).Error("Downloading artifacts from coordinator... failed")
		return DownloadFailed
	}
}

func describeCopy(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the archive ended before its announced size: %w", err)
	}
	return fmt.Errorf("copying the archive: %w", cleanError(err))
}
