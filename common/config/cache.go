package config

// Cache is [runners.cache]: where cache archives are kept between jobs.
type Cache struct {
	Type                   string `toml:"Type,omitempty"`
	Path                   string `toml:"Path,omitempty"`
	Shared                 bool   `toml:"Shared,omitempty"`
	MaxUploadedArchiveSize int64  `toml:"MaxUploadedArchiveSize"`

	S3    *CacheS3    `toml:"s3,omitempty"`
	GCS   *CacheGCS   `toml:"gcs,omitempty"`
	Azure *CacheAzure `toml:"azure,omitempty"`
}

// CacheS3 is [runners.cache.s3].
type CacheS3 struct {
	ServerAddress                       string `toml:"ServerAddress,omitempty"`
	AccessKey                           string `toml:"AccessKey,omitempty"`
	SecretKey                           string `toml:"SecretKey,omitempty"`
	SessionToken                        string `toml:"SessionToken,omitempty"`
	BucketName                          string `toml:"BucketName,omitempty"`
	BucketLocation                      string `toml:"BucketLocation,omitempty"`
	Insecure                            bool   `toml:"Insecure,omitempty"`
	AuthenticationType                  string `toml:"AuthenticationType,omitempty"`
	ServerSideEncryption                string `toml:"ServerSideEncryption,omitempty"`
	ServerSideEncryptionKeyID           string `toml:"ServerSideEncryptionKeyID,omitempty"`
	DualStack                           *bool  `toml:"DualStack,omitempty"`
	PathStyle                           *bool  `toml:"PathStyle,omitempty"`
	Accelerate                          bool   `toml:"Accelerate,omitempty"`
	RoleARN                             string `toml:"RoleARN,omitempty"`
	UploadRoleARN                       string `toml:"UploadRoleARN,omitempty"`
	AssumeRoleMaxConcurrency            int    `toml:"AssumeRoleMaxConcurrency,omitzero"`
	DisableAssumeRoleCredentialsCaching bool   `toml:"DisableAssumeRoleCredentialsCaching,omitempty"`
}

// CacheGCS is [runners.cache.gcs].
type CacheGCS struct {
	AccessID        string `toml:"AccessID,omitempty"`
	PrivateKey      string `toml:"PrivateKey,omitempty"`
	CredentialsFile string `toml:"CredentialsFile,omitempty"`
	BucketName      string `toml:"BucketName,omitempty"`
	UniverseDomain  string `toml:"UniverseDomain,omitempty"`
}

// CacheAzure is [runners.cache.azure].
type CacheAzure struct {
	AccountName   string `toml:"AccountName,omitempty"`
	AccountKey    string `toml:"AccountKey,omitempty"`
	ContainerName string `toml:"ContainerName,omitempty"`
	StorageDomain string `toml:"StorageDomain,omitempty"`
}
