<#
.SYNOPSIS
    Removes qlik-license-exporter: service, firewall rule, rights and program.
.DESCRIPTION
    Configuration, state and log stay in %ProgramData%\qlik-license-exporter, for a later installation.
.PARAMETER Purge
    Delete these too.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'High')]
param([switch] $Purge)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$Name = 'qlik-license-exporter'
$Folder = Join-Path $env:ProgramFiles $Name
$environmentPython = Join-Path $Folder 'python\Scripts\python.exe'
$Certificates = Join-Path $env:ProgramData 'Qlik\Sense\Repository\Exported Certificates\.Local Certificates'

if (-not $PSCmdlet.ShouldProcess($Name, 'Remove the service and the program')) {
    return
}
if (Get-Service -Name $Name -ErrorAction SilentlyContinue) {
    if (Test-Path -LiteralPath $Certificates) {
        & "$env:SystemRoot\System32\icacls.exe" $Certificates '/remove:g' "NT SERVICE\$Name" | Out-Null
    }
    & $environmentPython -I -m exporter service remove
    if ($LASTEXITCODE -ne 0) {
        throw "The service could not be removed (code $LASTEXITCODE)."
    }
}
Get-NetFirewallRule -Name $Name -ErrorAction SilentlyContinue | Remove-NetFirewallRule
if (Test-Path -LiteralPath $Folder) {
    Remove-Item -LiteralPath $Folder -Recurse -Force
}
if ($Purge -and (Test-Path -LiteralPath "$env:ProgramData\$Name")) {
    Remove-Item -LiteralPath "$env:ProgramData\$Name" -Recurse -Force
}
Write-Output 'Removed.'
