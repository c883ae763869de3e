package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// ArtifactUpload is one file to be stored with a job. Empty ExpireIn, Format and Type leave the choice
// to the server.
type ArtifactUpload struct {
	// BaseName is the file name the server is told.
	BaseName string
	ExpireIn string
	Format   string
	Type     string
	// Open returns the content from its beginning. It is called once per try that gets that far. What it
	// returns is closed, possibly while it is being read.
	Open func() (io.ReadCloser, error)
	// Timeout bounds one try, ResponseHeaderTimeout the wait for an answer after the content was
	// sent. 0 selects one hour and ten minutes.
	Timeout               time.Duration
	ResponseHeaderTimeout time.Duration
	// LogResponses adds the headers and the text of the answer to the log.
	LogResponses bool
}

// UploadState is the outcome of UploadArtifacts.
type UploadState int

// The outcomes of an upload. UploadRedirected, UploadServiceUnavailable and UploadFailed are worth
// another try.
const (
	UploadSucceeded UploadState = iota
	UploadForbidden
	UploadTooLarge
	UploadRedirected
	UploadServiceUnavailable
	UploadFailed
)

// UploadArtifacts stores a file with a job. For UploadRedirected, location is the URL to use in the
// credentials of the next try; it is empty otherwise.
func (c *Client) UploadArtifacts(ctx context.Context, job JobCredentials, upload ArtifactUpload) (UploadState, string) {
	log := c.log.WithField("id", job.ID).WithField("token", shortToken(job.Token))
	body, err := newMultipartFile(upload)
	if err != nil {
		log.WithError(err).Error("Uploading artifacts to coordinator... failed")
		return UploadFailed, ""
	}
	answer := c.stream(ctx, job.credentials(), request{
		method:                http.MethodPost,
		path:                  fmt.Sprintf("jobs/%d/artifacts", job.ID),
		query:                 upload.query(),
		header:                http.Header{"Content-Type": {body.contentType}, headerJobToken: {job.Token}},
		body:                  body.open,
		timeout:               upload.Timeout,
		responseHeaderTimeout: upload.ResponseHeaderTimeout,
		redirects:             redirectsNone,
	})
	defer answer.close()

	log = log.WithFields(answer.logFields())
	if upload.LogResponses {
		log = log.WithField("header", publicHeader(answer.header)).WithField("body", answer.text())
	}
	switch answer.status {
	case http.StatusCreated:
		log.Info("Uploading artifacts to coordinator... ok")
		return UploadSucceeded, ""
	case http.StatusForbidden:
		log.WithError(answer.problem()).Error("Uploading artifacts to coordinator... forbidden")
		return UploadForbidden, ""
	case http.StatusRequestEntityTooLarge:
		log.WithError(answer.problem()).Error("Uploading artifacts to coordinator... too large archive")
		return UploadTooLarge, ""
	case http.StatusServiceUnavailable:
		log.WithError(answer.problem()).Error("Uploading artifacts to coordinator... service unavailable")
		return UploadServiceUnavailable, ""
	case http.StatusTemporaryRedirect:
		location, err := redirectedBase(job.URL, answer.header.Get("Location"))
		if err != nil {
			log.WithError(err).Error("Uploading artifacts to coordinator... failed")
			return UploadFailed, ""
		}
		log.WithField("location", cleanText(location)).Info("Uploading artifacts to coordinator... redirected")
		return UploadRedirected, location
	default:
		log.WithError(answer.problem()).Error("Uploading artifacts to coordinator... failed")
		return UploadFailed, ""
	}
}

func (u ArtifactUpload) query() url.Values {
	query := url.Values{}
	for key, value := range map[string]string{
		"expire_in": u.ExpireIn, "artifact_format": u.Format, "artifact_type": u.Type,
	} {
		if value != "" {
			query.Set(key, value)
		}
	}
	return query
}

// redirectedBase puts the scheme and host of location into base.
func redirectedBase(base, location string) (string, error) {
	target, err := url.Parse(location)
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return "", fmt.Errorf("redirected without a usable location")
	}
	moved, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("parsing the URL of the server: %w", cleanError(err))
	}
	moved.Scheme, moved.Host = target.Scheme, target.Host
	return moved.String(), nil
}

// multipartFile is a form with one file that can be sent again and again, byte for byte the same but
// for the file's content.
type multipartFile struct {
	contentType string
	head, tail  []byte
	content     func() (io.ReadCloser, error)
}

func newMultipartFile(upload ArtifactUpload) (*multipartFile, error) {
	var random [15]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("choosing a boundary: %w", err)
	}
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	if err := writer.SetBoundary(hex.EncodeToString(random[:])); err != nil {
		return nil, fmt.Errorf("setting the boundary: %w", err)
	}
	if _, err := writer.CreateFormFile("file", upload.BaseName); err != nil {
		return nil, fmt.Errorf("creating the form: %w", err)
	}
	headLength := form.Len()
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("closing the form: %w", err)
	}
	return &multipartFile{
		contentType: writer.FormDataContentType(),
		head:        form.Bytes()[:headLength], tail: form.Bytes()[headLength:],
		content: upload.Open,
	}, nil
}

// open returns the form. The file is not opened before something is read, since the HTTP client asks
// for more copies of a body than it uses.
func (m *multipartFile) open() (io.ReadCloser, error) {
	return &formReader{file: m}, nil
}

// formReader is one copy. The HTTP client may close it while it reads.
type formReader struct {
	file *multipartFile

	mu      sync.Mutex
	closed  bool
	reader  io.Reader
	content io.Closer
}

func (f *formReader) Read(p []byte) (int, error) {
	reader, err := f.opened()
	if err != nil {
		return 0, err
	}
	return reader.Read(p)
}

func (f *formReader) opened() (io.Reader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("the upload was closed")
	}
	if f.reader == nil {
		content, err := f.file.content()
		if err != nil {
			return nil, fmt.Errorf("opening the file to upload: %w", err)
		}
		f.content = content
		f.reader = io.MultiReader(bytes.NewReader(f.file.head), content, bytes.NewReader(f.file.tail))
	}
	return f.reader, nil
}

func (f *formReader) Close() error {
	f.mu.Lock()
	content := f.content
	f.closed, f.content = true, nil
	f.mu.Unlock()
	if content == nil {
		return nil
	}
	return content.Close()
}
