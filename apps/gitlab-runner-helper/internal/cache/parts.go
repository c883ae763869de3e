package cache

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/meter"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// parallelParts is how many parts are under way at once.
const parallelParts = 4

// NeedsPartsError says that an archive is too large for one upload, and that nobody has said how to upload it in
// parts.
type NeedsPartsError struct {
	Size, Limit int64
}

func (e *NeedsPartsError) Error() string {
	return fmt.Sprintf("the archive has %d bytes: it has to be uploaded in parts, as one upload takes %d", e.Size, e.Limit)
}

// storeParts is store for an archive that is too large for one request.
func (r *remote) storeParts(ctx context.Context, f io.ReaderAt, size int64, progress *meter.Transfer) (stored time.Time, err error) {
	p := r.plan.Parts
	if p == nil || p.Size <= 0 {
		return time.Time{}, &NeedsPartsError{Size: size, Limit: r.plan.Limit}
	}
	parts := s3Parts(p, size)
	if p.URLs == nil {
		if parts, err = azureBlocks(r.plan, size); err != nil {
			return time.Time{}, err
		}
	}
	if most := p.Size * int64(len(parts.urls)); size > most {
		return time.Time{}, fmt.Errorf("the archive has %d bytes: at most %d can be uploaded", size, most)
	}
	tags := make([]string, len(parts.urls))
	group, uploading := errgroup.WithContext(ctx)
	group.SetLimit(parallelParts)
	for n, address := range parts.urls {
		offset := int64(n) * p.Size
		length := min(p.Size, size-offset)
		group.Go(func() error {
			err := r.retry(uploading, func() error {
				answer, err := r.send(uploading, http.MethodPut, address, nil, io.NewSectionReader(f, offset, length), length)
				if err != nil {
					return err
				}
				defer answer.Body.Close()
				tags[n] = answer.Header.Get("ETag")
				return problem(answer)
			})
			if err == nil {
				progress.Add(length)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return time.Time{}, err
	}
	err = r.retry(ctx, func() error {
		stored, err = r.complete(ctx, parts, tags)
		return err
	})
	return stored, err
}

// complete makes the parts one object. S3 may answer with success before it has failed.
func (r *remote) complete(ctx context.Context, parts parts, tags []string) (stored time.Time, err error) {
	body, err := parts.list(tags)
	if err != nil {
		return time.Time{}, fmt.Errorf("listing the parts: %w", err)
	}
	answer, err := r.send(ctx, parts.method, parts.complete, parts.headers, bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return time.Time{}, err
	}
	defer answer.Body.Close()
	if err := problem(answer); err != nil {
		return time.Time{}, err
	}
	var failure struct {
		XMLName xml.Name
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	if xml.NewDecoder(io.LimitReader(answer.Body, maxErrorBody)).Decode(&failure) == nil && failure.XMLName.Local == "Error" {
		return time.Time{}, fmt.Errorf("the object store could not join the parts: %s: %s", failure.Code, failure.Message)
	}
	return timeIn(answer.Header, "Date"), nil
}

// parts is an upload in parts, in the protocol of one of the stores.
type parts struct {
	urls             []string
	method, complete string
	headers          http.Header
	// list is the body of the request that completes the upload, for the tags that the store gave the parts.
	list func(tags []string) ([]byte, error)
}

// count is how many parts an archive has.
func count(size, part int64) int {
	return int((size + part - 1) / part)
}

func s3Parts(p *plan.Parts, size int64) parts {
	type part struct {
		Number int    `xml:"PartNumber"`
		ETag   string `xml:"ETag"`
	}
	return parts{
		urls:   p.URLs[:min(count(size, p.Size), len(p.URLs))],
		method: http.MethodPost, complete: p.CompleteURL,
		list: func(tags []string) ([]byte, error) {
			list := struct {
				XMLName xml.Name `xml:"CompleteMultipartUpload"`
				Parts   []part   `xml:"Part"`
			}{}
			for n, tag := range tags {
				list.Parts = append(list.Parts, part{n + 1, tag})
			}
			return xml.Marshal(list)
		},
	}
}

// azureBlocks are the parts of an object, by its own URL. What is to be kept with the object goes with their list.
func azureBlocks(r *plan.Remote, size int64) (parts, error) {
	object, err := url.Parse(r.URL)
	if err != nil {
		return parts{}, fmt.Errorf("the URL of the distributed cache is not valid")
	}
	with := func(query string) string {
		target := *object
		target.RawQuery += "&" + query
		return target.String()
	}
	p := parts{method: http.MethodPut, complete: with("comp=blocklist"), headers: http.Header{"X-Ms-Blob-Content-Type": {contentType}}}
	for key, values := range r.Headers {
		if key = http.CanonicalHeaderKey(key); key != "X-Ms-Blob-Type" {
			p.headers[key] = values
		}
	}
	var blocks []string
	for n := range count(size, r.Parts.Size) {
		// All of them have the same length, as Azure wants it.
		block := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%06d", n))
		blocks = append(blocks, block)
		p.urls = append(p.urls, with("comp=block&blockid="+url.QueryEscape(block)))
	}
	p.list = func([]string) ([]byte, error) {
		return xml.Marshal(struct {
			XMLName xml.Name `xml:"BlockList"`
			Blocks  []string `xml:"Latest"`
		}{Blocks: blocks})
	}
	return p, nil
}
