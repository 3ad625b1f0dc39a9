/*
** The host's SQLite under SQLite's own names.
**
** Our code, and rusqlite's, is compiled against a SQLite of its own. Loaded as an extension
** it must call the host's, which hands us a table of its functions. This file defines the
** names (hidden: nobody outside sees them), each going through the table, so that the
** linker never takes the SQLite that is compiled in.
**
** Invariant: `api` is set once, before anything else runs, and never changes: the process
** has one table. Most functions are in trampolines.inc, which build.rs writes from SQLite's
** header; here are the entry's checks and the functions with variable arguments.
*/
#ifndef _WIN32
# define _GNU_SOURCE
# include <dlfcn.h>
#else
# include <windows.h>
#endif
#include <stdarg.h>

/* So that the header does not turn the names into macros. */
#define SQLITE_CORE 1
#include "sqlite3ext.h"

/* First release without the fault in overlapping checkpoints. */
#define ANABRANCH_SAFE_WAL_VERSION 3051003

static const sqlite3_api_routines *volatile shared_api = 0;
static const sqlite3_api_routines *api = 0;
static int version = 0;

#include "trampolines.inc"

int sqlite3_vtab_config(sqlite3 *db, int op, ...) {
  int rc;
  va_list args;
  if( op!=SQLITE_VTAB_CONSTRAINT_SUPPORT ) return api->vtab_config(db, op);
  va_start(args, op);
  rc = api->vtab_config(db, op, va_arg(args, int));
  va_end(args);
  return rc;
}

int sqlite3_db_config(sqlite3 *db, int op, ...) {
  int rc;
  va_list args;
  va_start(args, op);
  switch( op ){
    case SQLITE_DBCONFIG_MAINDBNAME:
      rc = api->db_config(db, op, va_arg(args, const char*));
      break;
    case SQLITE_DBCONFIG_LOOKASIDE: {
      void *memory = va_arg(args, void*);
      int size = va_arg(args, int);
      int count = va_arg(args, int);
      rc = api->db_config(db, op, memory, size, count);
      break;
    }
    default: {
      int on = va_arg(args, int);
      int *result = va_arg(args, int*);
      rc = api->db_config(db, op, on, result);
    }
  }
  va_end(args);
  return rc;
}

char *sqlite3_mprintf(const char *format, ...) {
  char *text;
  va_list args;
  va_start(args, format);
  text = api->vmprintf(format, args);
  va_end(args);
  return text;
}

char *sqlite3_snprintf(int n, char *text, const char *format, ...) {
  va_list args;
  va_start(args, format);
  text = api->xvsnprintf(n, text, format, args);
  va_end(args);
  return text;
}

void sqlite3_str_appendf(sqlite3_str *str, const char *format, ...) {
  va_list args;
  va_start(args, format);
  api->str_vappendf(str, format, args);
  va_end(args);
}

void sqlite3_log(int code, const char *format, ...) {
  char *text;
  va_list args;
  va_start(args, format);
  text = api->vmprintf(format, args);
  va_end(args);
  if( text ) api->log(code, "%s", text);
  api->free(text);
}

/*
** Not in the table: an extension cannot configure its host. Defined so that code which
** offers it can be linked.
*/
int sqlite3_config(int op, ...) {
  (void)op;
  return SQLITE_MISUSE;
}

/*
** Keeps this library in memory until the process ends. SQLite unloads an extension whose
** entry point fails, even if functions of it are registered, and a thread may hold
** thread-local values whose destructors are in here.
*/
static void pin(void) {
#ifdef _WIN32
  HMODULE self;
  GetModuleHandleExA(
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
    (LPCSTR)&pin, &self);
#else
  Dl_info self;
  /* Through data: C has no conversion from a function to an object pointer. */
  if( dladdr((const void*)&shared_api, &self) && self.dli_fname ){
    /* The handle is dropped on purpose. */
    (void)dlopen(self.dli_fname, RTLD_LAZY | RTLD_NODELETE);
  }
#endif
}

static int claim(const sqlite3_api_routines *host) {
#ifdef _MSC_VER
  void *before = InterlockedCompareExchangePointer((void *volatile*)&shared_api, (void*)host, 0);
  return before==0 || before==host;
#else
  return __sync_bool_compare_and_swap(&shared_api, 0, host) || shared_api==host;
#endif
}

/*
** First call of every entry point: SQLITE_OK, or SQLITE_ERROR with a message in `*message`
** that the host frees. Calls only `host`, which need not be the table we have.
*/
int anabranch_shim_init(const sqlite3_api_routines *host, char **message) {
  int found = host->libversion_number();
  if( found<ANABRANCH_MIN_VERSION ){
    *message = host->mprintf("anabranch needs SQLite %d.%d.%d or newer, and this is %s",
        ANABRANCH_MIN_VERSION/1000000, ANABRANCH_MIN_VERSION/1000%1000,
        ANABRANCH_MIN_VERSION%1000, host->libversion());
    return SQLITE_ERROR;
  }
  if( !claim(host) ){
    *message = host->mprintf("anabranch is in use by another SQLite of this process (%s); "
        "load a copy of the library under another name here", shared_api->libversion());
    return SQLITE_ERROR;
  }
  pin();
  api = host;
  version = found;
  if( found<ANABRANCH_SAFE_WAL_VERSION ){
    host->log(SQLITE_NOTICE, "anabranch: this SQLite (%s) can lose transactions in WAL mode when "
        "checkpoints overlap; 3.51.3 and newer cannot", host->libversion());
  }
  return SQLITE_OK;
}
