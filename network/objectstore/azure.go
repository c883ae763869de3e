package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

const defaultAzureDomain = "blob.core.windows.net"

// azureContainer is a container of Azure Blob Storage.
type azureContainer struct {
	name string
	// url is that of the account, without a slash at its end.
	url    string
	signer azureSigner
	now    func() time.Time
}

// azureSigner signs by one of Azure's two ways.
type azureSigner interface {
	sign(ctx context.Context, v sas.BlobSignatureValues) (sas.QueryParameters, error)
}

func newAzure(c *config.CacheAzure) (*azureContainer, error) {
	if c == nil {
		return nil, errors.New("[runners.cache]: Type azure needs the table [runners.cache.azure]")
	}
	a, err := parseAzure(c)
	if err != nil {
		return nil, fmt.Errorf("[runners.cache.azure]: %w", err)
	}
	return a, nil
}

func parseAzure(c *config.CacheAzure) (*azureContainer, error) {
	switch {
	case c.ContainerName == "":
		return nil, errors.New("config ContainerName cannot be empty")
	case strings.Contains(c.ContainerName, "/"):
		return nil, fmt.Errorf("config ContainerName %q must not have a slash: folders go to Path in [runners.cache]", c.ContainerName)
	case c.AccountName == "":
		return nil, errors.New("config AccountName cannot be empty")
	}
	domain := c.StorageDomain
	if domain == "" {
		domain = defaultAzureDomain
	}
	if err := checkAddress("StorageDomain", domain); err != nil {
		return nil, err
	}
	if err := checkAddress("AccountName", c.AccountName); err != nil || strings.ContainsAny(c.AccountName, ".:") {
		return nil, fmt.Errorf("config AccountName %q is not the name of an account: leave the domain to StorageDomain", c.AccountName)
	}
	a := &azureContainer{
		name: c.ContainerName,
		url:  "https://" + c.AccountName + "." + canonicalAddress("https", domain),
		now:  time.Now,
	}
	var err error
	if c.AccountKey == "" {
		a.signer = newDelegatedSigner(a.url, domain)
	} else {
		a.signer, err = newKeySigner(c.AccountName, c.AccountKey)
	}
	return a, err
}

// azureLimit is what one request may carry, azureBlock what is sent at a time beyond that.
const (
	azureLimit = 5000 << 20
	azureBlock = 256 << 20
)

func (a *azureContainer) limit() (int64, *plan.Parts) {
	// The URL of an object is good for its blocks, too.
	return azureLimit, &plan.Parts{Size: azureBlock}
}

func (a *azureContainer) sign(ctx context.Context, o object, methods ...string) ([]signedURL, error) {
	urls := make([]signedURL, 0, len(methods))
	for _, method := range methods {
		permissions := sas.BlobPermissions{Read: true}
		headers := make(http.Header)
		if method == http.MethodPut {
			permissions = sas.BlobPermissions{Create: true, Write: true}
			headers.Set("x-ms-blob-type", "BlockBlob")
			for name, value := range o.metadata {
				headers.Set("x-ms-meta-"+name, value)
			}
		}
		query, err := a.signer.sign(ctx, sas.BlobSignatureValues{
			Protocol:      sas.ProtocolHTTPS,
			ExpiryTime:    a.now().UTC().Add(o.lifetime),
			Permissions:   permissions.String(),
			ContainerName: a.name,
			BlobName:      o.name,
		})
		if err != nil {
			return nil, fmt.Errorf("signing a %s request to container %s: %w", method, a.name, err)
		}
		urls = append(urls, signedURL{
			url:     a.url + escapePath("/"+a.name+"/"+o.name) + "?" + query.Encode(),
			headers: headers,
		})
	}
	return urls, nil
}
