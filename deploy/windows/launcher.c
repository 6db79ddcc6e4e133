/* qlik-license-exporter.exe of the MSI: runs the exporter with the Python beside it, and with nothing else.
 * `qlik-license-exporter.exe service-host` is the service; `-m exporter` is left out where a command starts itself anew. */
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>
#include <windows.h>

typedef int (*py_main)(int, wchar_t **);

int wmain(int argc, wchar_t **argv)
{
    wchar_t path[32768];
    DWORD length = GetModuleFileNameW(NULL, path, 32768 - 16);
    wchar_t *name = length ? wcsrchr(path, L'\\') : NULL;
    if (!name || length >= 32768 - 16)
        return 120;
    wcscpy(name + 1, L"python311.dll");
    HMODULE dll = LoadLibraryExW(path, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
    py_main run = dll ? (py_main)(void *)GetProcAddress(dll, "Py_Main") : NULL;
    if (!run) {
        fprintf(stderr, "qlik-license-exporter: cannot load python311.dll beside it (error %lu)\n", GetLastError());
        return 120;
    }
    int service = argc == 2 && !wcscmp(argv[1], L"service-host");
    int skipped = argc > 2 && !wcscmp(argv[1], L"-m") && !wcscmp(argv[2], L"exporter") ? 3 : 1 + service;
    wchar_t **words = calloc(argc + 5, sizeof *words);
    if (!words)
        return 120;
    int count = 0;
    words[count++] = argv[0];
    words[count++] = L"-I";
    words[count++] = L"-m";
    words[count++] = service ? L"exporter.commands.service" : L"exporter";
    for (int next = skipped; next < argc; next++)
        words[count++] = argv[next];
    return run(count, words);
}
