package coordinator

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	archiveType = "archive"
	formatZip   = "zip"
	// maxUploadDrain is how much of an upload is read before it is redirected, since not every client can cope with an
	// answer in the middle of its request.
	maxUploadDrain = 32 << 20
)

// Artifact is one file uploaded by a job. Its fields never change.
type Artifact struct {
	JobID    int64
	Type     string
	Format   string
	Filename string
	ExpireIn string
	Size     int64
	SHA256   string
	Time     time.Time
	path     string
}

// Open gives the content; it can be read until the coordinator is closed. The caller closes the file.
func (a *Artifact) Open() (*os.File, error) {
	file, err := os.Open(a.path)
	if err != nil {
		return nil, fmt.Errorf("open artifact %s of job %d: %w", a.Filename, a.JobID, err)
	}
	return file, nil
}

// artifact finds an upload of the job by type. The caller holds c.mu.
func (j *Job) artifact(kind string) *Artifact {
	index := slices.IndexFunc(j.artifacts, func(a *Artifact) bool { return a.Type == kind })
	if index < 0 {
		return nil
	}
	return j.artifacts[index]
}

func (c *Coordinator) uploadArtifact(x *exchange) {
	if c.cfg.RedirectUploads && !x.atStore {
		_, _ = io.CopyN(io.Discard, x.r.Body, maxUploadDrain)
		x.w.Header().Set("Location", c.storeURL+x.r.URL.RequestURI())
		refuse(x.w, http.StatusTemporaryRedirect)
		return
	}
	c.mu.Lock()
	job := c.authorize(x, x.r.Header.Get("JOB-TOKEN"))
	if job == nil {
		c.mu.Unlock()
		return
	}
	if job.state != StateRunning && job.state != StateCanceling {
		c.refuseEnded(x, job)
		c.mu.Unlock()
		return
	}
	kind, format, expire := c.checkUploadQuery(job, x.r.URL.Query())
	c.nextArtifact++
	path := filepath.Join(c.dir, strconv.FormatInt(c.nextArtifact, 10))
	c.mu.Unlock()

	artifact, err := c.receive(x.r, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, errTooLarge):
		refuse(x.w, http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		// A cut upload is no breach: the client may have been killed.
		if x.r.Context().Err() == nil {
			c.violate(RuleArtifacts, job.id, "upload of type %s: %v", kind, err)
		}
		refuse(x.w, http.StatusBadRequest)
		return
	}
	artifact.JobID, artifact.Type, artifact.Format, artifact.ExpireIn = job.id, kind, format, expire
	if problem := artifact.contentProblem(); problem != "" {
		c.violate(RuleArtifacts, job.id, "upload %s of type %s: %s", artifact.Filename, kind, problem)
	}
	if former := job.artifact(kind); former != nil {
		_ = os.Remove(path)
		if former.SHA256 != artifact.SHA256 {
			c.violate(RuleArtifacts, job.id, "a second, different upload of type %s", kind)
			refuse(x.w, http.StatusBadRequest)
			return
		}
		reply(x.w, http.StatusCreated, "201")
		return
	}
	if job.state.Final() {
		_ = os.Remove(path)
		c.refuseEnded(x, job)
		return
	}
	job.artifacts = append(job.artifacts, artifact)
	c.publish(Event{Kind: EventArtifact, Job: job, State: job.state, Artifact: artifact})
	c.setJobHeaders(x, job)
	reply(x.w, http.StatusCreated, "201")
}

// checkUploadQuery reads the query and notes what differs from what the job declared. The caller holds c.mu.
func (c *Coordinator) checkUploadQuery(job *Job, query url.Values) (kind, format, expire string) {
	for key, values := range query {
		if !slices.Contains([]string{"artifact_type", "artifact_format", "expire_in"}, key) || len(values) != 1 {
			c.violate(RuleArtifacts, job.id, "upload with query parameter %q %d times", clip(key), len(values))
		} else if values[0] == "" {
			c.violate(RuleArtifacts, job.id, "upload with empty %s, which is to be left out", key)
		}
	}
	kind, format, expire = query.Get("artifact_type"), query.Get("artifact_format"), query.Get("expire_in")
	if kind == "" {
		kind = archiveType
	}
	if format == "" {
		format = formatZip
	}
	index := slices.IndexFunc(job.declared, func(d declaredArtifact) bool { return d.Type == kind })
	if index < 0 {
		c.violate(RuleArtifacts, job.id, "upload of type %s, which the job does not declare", clip(kind))
		return kind, format, expire
	}
	if declared := job.declared[index]; declared.Format != format || declared.ExpireIn != expire {
		c.violate(RuleArtifacts, job.id, "upload of type %s with format %q and expire_in %q, declared are %q and %q",
			kind, clip(format), clip(expire), declared.Format, declared.ExpireIn)
	}
	return kind, format, expire
}

// errTooLarge says that a body passed its limit.
var errTooLarge = errors.New("too large")

// receive stores the one part of an upload in path.
func (c *Coordinator) receive(r *http.Request, path string) (*Artifact, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, fmt.Errorf("read multipart body: %w", err)
	}
	part, err := parts.NextPart()
	if err != nil {
		return nil, fmt.Errorf("read first part: %w", err)
	}
	if part.FormName() != "file" || part.FileName() == "" {
		return nil, fmt.Errorf("part is named %q with file name %q, want \"file\" and a name", clip(part.FormName()), clip(part.FileName()))
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store upload: %w", err)
	}
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(part, c.cfg.MaxArtifactSize+1))
	if err = errors.Join(err, file.Close()); err == nil && size > c.cfg.MaxArtifactSize {
		err = errTooLarge
	}
	if err == nil {
		if _, next := parts.NextPart(); next != io.EOF {
			err = errors.New("more than the one part \"file\"")
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &Artifact{
		Filename: part.FileName(), Size: size, SHA256: hex.EncodeToString(sum.Sum(nil)), Time: time.Now(), path: path,
	}, nil
}

// contentProblem says if the content is not of the announced format.
func (a *Artifact) contentProblem() string {
	suffix := map[string]string{"zip": ".zip", "zipzstd": ".zip", "gzip": ".gz", "tarzstd": ".tar.zst"}[a.Format]
	if suffix != "" && !bytes.HasSuffix([]byte(a.Filename), []byte(suffix)) {
		return fmt.Sprintf("format %s, but the name does not end in %s", a.Format, suffix)
	}
	file, err := a.Open()
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	switch a.Format {
	case formatZip, "zipzstd":
		_, err = zip.NewReader(file, a.Size)
	case "gzip":
		var reader *gzip.Reader
		if reader, err = gzip.NewReader(file); err == nil {
			err = errors.Join(err, reader.Close())
		}
	case "tarzstd":
		magic := make([]byte, 4)
		if _, err = io.ReadFull(file, magic); err == nil && !bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			err = errors.New("no zstd frame")
		}
	case "raw":
	default:
		return fmt.Sprintf("unknown format %q", clip(a.Format))
	}
	if err != nil {
		return fmt.Sprintf("not of format %s: %v", a.Format, err)
	}
	return ""
}

func (c *Coordinator) downloadArtifact(x *exchange) {
	token := x.r.Header.Get("JOB-TOKEN")
	direct := x.r.URL.Query().Get("direct_download")
	c.mu.Lock()
	if token == "" {
		c.violate(RuleJobToken, x.jobID, "%s without JOB-TOKEN", x.endpoint)
		c.mu.Unlock()
		refuse(x.w, http.StatusUnauthorized)
		return
	}
	job := c.authorize(x, token)
	if job == nil {
		c.mu.Unlock()
		return
	}
	if x.r.URL.Query().Has("direct_download") && direct != "true" {
		c.violate(RuleArtifacts, job.id, "direct_download=%q, which is to be left out unless true", clip(direct))
	}
	artifact := job.artifact(archiveType)
	location := ""
	if artifact != nil && direct == "true" && c.cfg.DirectDownload {
		key := randomText(32)
		c.blobs[key] = artifact
		location = c.storeURL + storePath + key
	}
	c.mu.Unlock()

	switch {
	case artifact == nil:
		refuse(x.w, http.StatusNotFound)
	case location != "":
		x.w.Header().Set("Location", location)
		x.w.WriteHeader(http.StatusFound)
	default:
		artifact.serve(x.w, x.r)
	}
}

func (a *Artifact) serve(w http.ResponseWriter, r *http.Request) {
	file, err := a.Open()
	if err != nil {
		refuse(w, http.StatusInternalServerError)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.Filename}))
	http.ServeContent(w, r, "", a.Time, file)
}

const storePath = "/store/"

// storeHandler is the second listener: downloads by signed URL, and uploads that were redirected.
func (c *Coordinator) storeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+storePath+"{key}", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		artifact := c.blobs[r.PathValue("key")]
		credential := ""
		for _, name := range []string{"Authorization", "JOB-TOKEN", "RUNNER-TOKEN", "PRIVATE-TOKEN"} {
			if r.Header.Get(name) != "" {
				credential = name
			}
		}
		if credential != "" {
			c.violate(RuleStoreAuth, 0, "%s was sent to the object store", credential)
		}
		c.mu.Unlock()
		switch {
		case credential != "":
			storeError(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
		case artifact == nil:
			storeError(w, http.StatusForbidden, "AccessDenied", "Request has expired")
		default:
			artifact.serve(w, r)
		}
	})
	mux.Handle("POST /api/v4/jobs/{id}/artifacts", c.endpoint(EndpointUploadArtifact, func(x *exchange) {
		x.atStore = true
		c.uploadArtifact(x)
	}))
	return mux
}

func storeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>\n", code, message)
}
