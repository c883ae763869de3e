package cache_test

import (
	"bytes"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/cache"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// partStore keeps one object that comes in parts, in S3's or Azure's protocol.
type partStore struct {
	*httptest.Server
	mu       sync.Mutex
	parts    map[string][]byte
	tags     map[string]string
	object   []byte
	header   http.Header
	requests int
	// refuse is how many requests for parts are answered with 503, broken what completing answers instead.
	refuse int
	broken string
}

func newPartStore(t *testing.T) *partStore {
	s := &partStore{parts: map[string][]byte{}, tags: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests++
		query := r.URL.Query()
		part := query.Get("partNumber") + query.Get("blockid")
		switch {
		case query.Get("signature") != "topsecret":
			w.WriteHeader(http.StatusForbidden)
		case part != "" && s.refuse > 0:
			s.refuse--
			w.WriteHeader(http.StatusServiceUnavailable)
		case part != "":
			s.parts[part] = body
			s.tags[part] = fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(body)))
			w.Header().Set("ETag", s.tags[part])
		default:
			s.complete(w, r, body)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *partStore) complete(w http.ResponseWriter, r *http.Request, body []byte) {
	if s.broken != "" {
		_, _ = io.WriteString(w, s.broken)
		return
	}
	var list struct {
		Parts []struct {
			PartNumber string
			ETag       string
		} `xml:"Part"`
		Latest []string
	}
	if xml.Unmarshal(body, &list) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.header = r.Header.Clone()
	for _, block := range list.Latest {
		s.object = append(s.object, s.parts[block]...)
	}
	for _, part := range list.Parts {
		if part.ETag != s.tags[part.PartNumber] {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.object = append(s.object, s.parts[part.PartNumber]...)
	}
	_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
}

func (s *partStore) url(query string) string {
	return s.URL + "/bucket/key?" + query + "signature=topsecret"
}

// s3 and azure are an upload in parts of 100 bytes for archives of more than 150.
func (s *partStore) s3(parts int) *plan.Remote {
	r := &plan.Remote{URL: s.url(""), Limit: 150, Parts: &plan.Parts{Size: 100, CompleteURL: s.url("uploadId=u&")}}
	for n := range parts {
		r.Parts.URLs = append(r.Parts.URLs, s.url(fmt.Sprintf("partNumber=%d&", n+1)))
	}
	return r
}

func (s *partStore) azure() *plan.Remote {
	return &plan.Remote{
		URL: s.url(""), Limit: 150, Parts: &plan.Parts{Size: 100},
		Headers: map[string][]string{"x-ms-blob-type": {"BlockBlob"}, "x-ms-meta-cachekey": {"main"}},
	}
}

// large is a machine with more than fits into one upload.
func large(t *testing.T) *machine {
	m := newMachine(t)
	for n := range 20 {
		m.write(fmt.Sprintf("modules/%02d", n), strings.Repeat("content", n))
	}
	return m
}

func TestLargeArchivesAreUploadedInParts(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"S3", "Azure"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s, m := newPartStore(t), large(t)
			s.refuse = 2
			remote := s.s3(100)
			if protocol == "Azure" {
				remote = s.azure()
			}
			key := m.key("main", remote)
			said := m.save(plan.CacheSave{Key: key, Paths: []string{"modules"}})
			require.Contains(t, said, "Created cache\n")
			archive, err := os.ReadFile(key.File)
			require.NoError(t, err)
			require.True(t, bytes.Equal(archive, s.object), "the parts are in order")
			require.Len(t, s.parts, (len(archive)+99)/100)
			require.NotContains(t, said, "WARNING")
			info, err := os.Stat(key.File)
			require.NoError(t, err)
			require.Zero(t, info.ModTime().Nanosecond(), "the archive has the store's time, so that it is not downloaded here")
			require.Equal(t, len(s.parts)+1+2, s.requests, "what was refused was tried again")
			if protocol == "Azure" {
				require.Equal(t, "main", s.header.Get("X-Ms-Meta-Cachekey"))
				require.Empty(t, s.header.Get("X-Ms-Blob-Type"), "a list of blocks has no type")
			}
		})
	}
}

func TestArchivesThatCannotBeUploadedInParts(t *testing.T) {
	t.Parallel()
	s, m := newPartStore(t), large(t)
	remote := s.s3(2)
	save := plan.CacheSave{Key: m.key("main", remote), Paths: []string{"modules"}}
	require.Contains(t, m.save(save), "at most 200 can be uploaded\nFailed to create cache\n")
	require.Zero(t, s.requests)

	remote = s.s3(100)
	save.Key.Remote = remote
	s.broken = "<Error><Code>InternalError</Code><Message>try again</Message></Error>"
	require.Contains(t, m.save(save), "the object store could not join the parts: InternalError: try again\nFailed to create cache\n")

	remote.Parts = nil
	m.out.Reset()
	err := m.cache().Save(t.Context(), save)
	var needed *cache.NeedsPartsError
	require.ErrorAs(t, err, &needed)
	require.Equal(t, int64(150), needed.Limit)
	require.NotContains(t, m.out.String(), "Failed", "it is only to be done in another way")
	require.NotContains(t, m.out.String(), "topsecret")
}
