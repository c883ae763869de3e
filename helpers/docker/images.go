package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// platformInspectVersion is the API version from which an image of one platform can be asked for.
const platformInspectVersion = "1.49"

// ImageInspect returns what the engine knows of an image. Engines that cannot tell platforms apart are
// asked without one.
func (c *Client) ImageInspect(ctx context.Context, ref string, platform *ocispec.Platform) (image.InspectResponse, error) {
	library := c.library()
	if platform == nil || versions.LessThan(library.ClientVersion(), platformInspectVersion) {
		return library.ImageInspect(ctx, ref)
	}
	return library.ImageInspect(ctx, ref, client.ImageInspectWithPlatform(platform))
}

// Progress is one report of a pull or of a load.
type Progress struct {
	// Layer is empty for reports on the image as a whole.
	Layer   string
	Status  string
	Current int64
	Total   int64
	// Text is a line for people.
	Text string
}

// Pull is what to pull.
type Pull struct {
	// Ref has a tag or a digest.
	Ref string
	// Platform is empty for the engine's own.
	Platform string
	// Auth is nil for anonymous access.
	Auth *registry.AuthConfig
}

// ImagePull pulls an image and reports while it does. The error of a registry is returned as it came.
func (c *Client) ImagePull(ctx context.Context, pull Pull, report func(Progress)) error {
	auth := ""
	if pull.Auth != nil {
		encoded, err := registry.EncodeAuthConfig(*pull.Auth)
		if err != nil {
			return fmt.Errorf("encoding credentials for %s: %w", pull.Ref, err)
		}
		auth = encoded
	}
	body, err := c.library().ImagePull(ctx, pull.Ref, image.PullOptions{RegistryAuth: auth, Platform: pull.Platform})
	if err != nil {
		return err
	}
	defer body.Close()
	return readProgress(body, report)
}

// ImageLoad loads the images of a tar archive and returns the name of the last one, or its ID if the
// archive names none.
func (c *Client) ImageLoad(ctx context.Context, archive io.Reader) (string, error) {
	answer, err := c.library().ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	loaded := ""
	err = readProgress(answer.Body, func(report Progress) {
		for _, prefix := range []string{"Loaded image: ", "Loaded image ID: "} {
			if name, found := strings.CutPrefix(strings.TrimSpace(report.Text), prefix); found {
				loaded = name
			}
		}
	})
	if err == nil && loaded == "" {
		err = errors.New("the archive has no image")
	}
	return loaded, err
}

// ImageTag gives an image a further name.
func (c *Client) ImageTag(ctx context.Context, id, ref string) error {
	return c.library().ImageTag(ctx, id, ref)
}

// reportLimit bounds one report in a stream of them.
const reportLimit = 1 << 20

// readProgress reads reports to their end. The last word of a failed operation is an error among them.
func readProgress(stream io.Reader, report func(Progress)) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 0, 4<<10), reportLimit)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var line struct {
			ID             string                         `json:"id"`
			Stream         string                         `json:"stream"`
			Status         string                         `json:"status"`
			ProgressDetail struct{ Current, Total int64 } `json:"progressDetail"`
			ErrorDetail    *struct{ Message string }      `json:"errorDetail"`
			Error          string                         `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("reading the engine's progress: %w", err)
		}
		switch {
		case line.ErrorDetail != nil && line.ErrorDetail.Message != "":
			return errors.New(line.ErrorDetail.Message)
		case line.Error != "":
			return errors.New(line.Error)
		case report != nil:
			report(Progress{
				Layer: line.ID, Status: line.Status, Text: line.Stream,
				Current: line.ProgressDetail.Current, Total: line.ProgressDetail.Total,
			})
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the engine's progress: %w", err)
	}
	return nil
}
