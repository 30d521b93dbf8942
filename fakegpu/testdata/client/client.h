/* What the parts of the client have in common. */
#ifndef CLIENT_H
#define CLIENT_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* want counts an answer that is another one as a failure. */
extern int failures;
void want(long long got, long long wanted, const char *what);

void *symbol(const char *name);

/* The library sleeps for as long as hold is set, and says so in held. */
extern int hold, held;

/* CALL looks a function up by its name at each call, with the header's type. */
#define CALL(function, ...) (((__typeof__(&function))symbol(#function))(__VA_ARGS__))
#define WANT(code, function, ...) want(CALL(function, __VA_ARGS__), NVML_ERROR_##code, #function "(" #__VA_ARGS__ ")")
#define OK(function, ...) want(CALL(function, __VA_ARGS__), NVML_SUCCESS, #function "(" #__VA_ARGS__ ")")
#define INIT() want(((nvmlReturn_t(*)(void))symbol("nvmlInit_v2"))(), NVML_SUCCESS, "nvmlInit_v2()")
#define SHUTDOWN() (((nvmlReturn_t(*)(void))symbol("nvmlShutdown"))())

/* What is checked: a healthy machine, and the lists, the MIG devices and the
 * events of a rich one. */
void check(const char *uuid, unsigned int count);
void lists(void);
void mig(void);
void events(void);
void freed(void);
void sets(void);

#endif
