# PowerShell completion for kubectl                        -*- shell-script -*-
#
# kubectl completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName 'kubectl' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    # The words up to the cursor; one that has just been begun is empty.
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } |
        ForEach-Object { "$_" })
    $program = $words[0]
    $arguments = @($words | Select-Object -Skip 1)
    if ($wordToComplete -eq '') { $arguments += '' }
    # Older versions drop empty arguments of programs.
    if ($PSVersionTable.PSVersion -lt [version]'7.3') {
        $arguments = @($arguments | ForEach-Object { if ($_ -eq '') { '""' } else { $_ } })
    }
    $lines = @(& $program __complete @arguments 2>$null)
    $directive = 0
    $candidates = @()
    foreach ($line in $lines) {
        if ($line -match '^:(\d+)$') { $directive = [int]$Matches[1] }
        elseif ($line -ne '') { $candidates += $line }
    }
    if ($directive -band 1) { return }
    $prefix = ''
    if ($wordToComplete -match '^(-[^=]*=)') { $prefix = $Matches[1] }
    if ($directive -band 8) { return }
    $space = if ($directive -band 2) { '' } else { ' ' }
    $single = $candidates.Count -eq 1
    foreach ($candidate in $candidates) {
        $name, $description = $candidate -split "`t", 2
        if (-not $description) { $description = $name }
        $text = "$prefix$name"
        if ($single) { $text += $space }
        [System.Management.Automation.CompletionResult]::new($text, $name, 'ParameterValue', $description)
    }
    # Nothing at all would be names of files.
    if ($candidates.Count -eq 0 -and ($directive -band 4)) { '' }
}
