<#
.SYNOPSIS
    Installs or upgrades qlik-license-exporter as a Windows service, without a network.
.DESCRIPTION
    Run it in the unpacked folder that `make windows` builds, with the wheels and requirements.txt in it. Only wheels
    whose hashes are in requirements.txt are installed. Needs Python 3.11, 3.12 or 3.13, installed for all users.
    Configuration, state and the service's log are in %ProgramData%\qlik-license-exporter and are kept on upgrade.
    Run a newer folder's install.ps1 to upgrade.
.PARAMETER Source
    The folder with requirements.txt and the folder wheels. Default: where this script is.
.PARAMETER Python
    The python.exe to install for. Default: the newest supported one that is installed for all users.
.PARAMETER Port
    The port of the exporter, for the firewall rule and the check at the end.
.PARAMETER AllowFrom
    The addresses that may scrape, in the format of New-NetFirewallRule. Default: the local subnet. Use the address of
    your Prometheus.
.PARAMETER NoFirewall
    Do not change the firewall.
.PARAMETER GrantCertificates
    Let the service read Qlik's exported certificates too. Needed for the Repository API only, on the central node.
.EXAMPLE
    .\install.ps1 -AllowFrom 192.0.2.10
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding()]
param(
    [string] $Source = '',
    [string] $Python = '',
    [ValidateRange(1, 65535)] [int] $Port = 10188,
    [string[]] $AllowFrom = @('LocalSubnet'),
    [switch] $NoFirewall,
    [switch] $GrantCertificates
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$Name = 'qlik-license-exporter'
$Folder = Join-Path $env:ProgramFiles $Name
$Environment = Join-Path $Folder 'python'
$Exporter = Join-Path $Environment "Scripts\$Name.exe"
$Certificates = Join-Path $env:ProgramData 'Qlik\Sense\Repository\Exported Certificates\.Local Certificates'
$SupportedPythons = @('3.11', '3.12', '3.13')  # the wheels are for these
$SecondsToStart = 60

function Invoke-Program {
    # Runs a program; a code other than 0 ends the installation with the program's name and code.
    param([string] $File, [string[]] $Arguments)
    & $File @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "$File $($Arguments -join ' ') failed with code $LASTEXITCODE."
    }
}

function Find-Python {
    # The newest Python that every account can run: one in somebody's profile is closed to the service's account.
    $installed = @(Get-ItemProperty -Path 'HKLM:\SOFTWARE\Python\PythonCore\*\InstallPath' -ErrorAction SilentlyContinue)
    $newest = $null
    foreach ($entry in $installed) {
        if (-not $entry.PSObject.Properties['ExecutablePath'] -or -not (Test-Path -LiteralPath $entry.ExecutablePath)) {
            continue
        }
        $file = (Get-Item -LiteralPath $entry.ExecutablePath).VersionInfo
        $version = [version] "$($file.FileMajorPart).$($file.FileMinorPart)"
        if ($SupportedPythons -contains "$version" -and ($null -eq $newest -or $version -gt $newest.Version)) {
            $newest = [pscustomobject] @{ File = $entry.ExecutablePath; Version = $version }
        }
    }
    if ($null -eq $newest) {
        throw "None of Python $($SupportedPythons -join ', ') is installed for all users. Install one, or specify it with -Python."
    }
    $newest.File
}

if (-not $Source) {
    $Source = $PSScriptRoot  # not in param(): Windows PowerShell may not know it there yet
}
$Wheels = Join-Path $Source 'wheels'
$Requirements = Join-Path $Source 'requirements.txt'
foreach ($needed in @($Wheels, $Requirements)) {
    if (-not (Test-Path -LiteralPath $needed)) {
        throw "$needed does not exist. Unpack the whole folder, or specify it with -Source. See Get-Help .\install.ps1."
    }
}
if (-not $Python) {
    $Python = Find-Python
}
if ($Python.StartsWith((Join-Path $env:SystemDrive 'Users'), [StringComparison]::OrdinalIgnoreCase)) {
    throw "$Python belongs to one user; the service account cannot run it. Install Python for all users."
}

Write-Output "Installing for $Python"
$service = Get-Service -Name $Name -ErrorAction SilentlyContinue
if ($service -and $service.Status -ne 'Stopped') {
    Stop-Service -Name $Name  # an upgrade; the state is complete at any moment
}
if (-not (Test-Path -LiteralPath $Environment)) {
    Invoke-Program $Python @('-I', '-m', 'venv', $Environment)
}
$environmentPython = Join-Path $Environment 'Scripts\python.exe'
# By digest and from the folder alone, whatever this machine's pip is set up for.
Invoke-Program $environmentPython @(
    '-I', '-m', 'pip', '--isolated', 'install', '--quiet', '--disable-pip-version-check', '--no-index',
    '--find-links', $Wheels, '--only-binary', ':all:', '--require-hashes', '--force-reinstall',
    '--requirement', $Requirements
)

# Creates or updates the service, its folder, and its rights on the folder and the configured logs.
Invoke-Program $environmentPython @('-I', '-m', 'exporter', 'service', 'install')
if ($GrantCertificates) {
    Invoke-Program "$env:SystemRoot\System32\icacls.exe" @($Certificates, '/grant', "NT SERVICE\${Name}:(OI)(CI)RX")
}

if (-not $NoFirewall) {
    Get-NetFirewallRule -Name $Name -ErrorAction SilentlyContinue | Remove-NetFirewallRule
    $rule = @{
        Name          = $Name
        DisplayName   = 'Qlik license exporter (Prometheus)'
        Direction     = 'Inbound'
        Action        = 'Allow'
        Protocol      = 'TCP'
        LocalPort     = $Port
        RemoteAddress = $AllowFrom
    }
    New-NetFirewallRule @rule | Out-Null
}

Invoke-Program $environmentPython @('-I', '-m', 'exporter', 'service', 'start')
$deadline = (Get-Date).AddSeconds($SecondsToStart)
while ($true) {
    & $environmentPython -I -m exporter healthy "127.0.0.1:$Port" | Out-Null  # with TLS or without
    if ($LASTEXITCODE -eq 0) {
        break
    }
    if ((Get-Date) -gt $deadline) {
        throw "No answer on port $Port. See the Application event log and $env:ProgramData\$Name\log."
    }
    Start-Sleep -Milliseconds 500
}
Write-Output "Done. Metrics: http://${env:COMPUTERNAME}:$Port/metrics  Configuration: $env:ProgramData\$Name\config.yml"
Write-Output "To check what it can read and reach: & '$Exporter' check"
