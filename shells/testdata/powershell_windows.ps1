& {
[System.IO.Directory]::CreateDirectory("/builds/group/project.tmp") | Out-Null
if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE }; exit 1 }
${GREETING}="say `"hi`" to `$USER for ``5```nand `“bye`”"
${env:GREETING}=${GREETING}
[System.IO.File]::WriteAllText("/builds/group/project.tmp/CERTIFICATE", "-----BEGIN-----`n")
${CERTIFICATE}="/builds/group/project.tmp/CERTIFICATE"
${env:CERTIFICATE}=${CERTIFICATE}
${env:HOME}="/root"
${EMPTY}=""
${env:EMPTY}=${EMPTY}
${GITLAB_ENV}="/builds/group/project.tmp/gitlab_runner_env"
${env:GITLAB_ENV}=${GITLAB_ENV}
if (-not [System.IO.File]::Exists("/builds/group/project.tmp/gitlab_runner_env")) { [System.IO.File]::WriteAllText("/builds/group/project.tmp/gitlab_runner_env", "") }
foreach ($_runner_line in [System.IO.File]::ReadAllLines("/builds/group/project.tmp/gitlab_runner_env")) {
if ($_runner_line -match '^([A-Za-z_][A-Za-z0-9_]*)=(.*)$') {
[System.Environment]::SetEnvironmentVariable($Matches[1], $Matches[2])
}
}
[System.IO.Directory]::CreateDirectory("/builds/group/project") | Out-Null
if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE }; exit 1 }
Set-Location -LiteralPath "/builds/group/project"
if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE }; exit 1 }
Write-Output "[32;1mRunning after script...[0;m"
Write-Output silent
if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE }; exit 1 }
Write-Output "[32;1m`$ Write-Output `$env:GREETING[0;m"
Write-Output $env:GREETING
if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE }; exit 1 }
Write-Output ""
Write-Output "[32;1m`$ if (`$true) { # collapsed multi-line command[0;m"
if ($true) {
  dotnet build
}
if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE }; exit 1 }
}

