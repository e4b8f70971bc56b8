/* In place of an unwinder, for programs that end when they panic: the standard library still names these functions, in code
   that is never called without unwind tables. 22 KiB less. Whatever would get here all the same ends the program too. */
#define ENDS(name) void name(void); void name(void) { __builtin_trap(); }
ENDS(_Unwind_GetDataRelBase)
ENDS(_Unwind_GetIP)
ENDS(_Unwind_GetIPInfo)
ENDS(_Unwind_GetLanguageSpecificData)
ENDS(_Unwind_GetRegionStart)
ENDS(_Unwind_GetTextRelBase)
ENDS(_Unwind_Resume)
ENDS(_Unwind_SetGR)
ENDS(_Unwind_SetIP)
#ifdef __arm__
ENDS(_Unwind_VRS_Get)
ENDS(_Unwind_VRS_Set)
ENDS(__aeabi_unwind_cpp_pr0)
ENDS(__aeabi_unwind_cpp_pr1)
ENDS(__aeabi_unwind_cpp_pr2)
ENDS(__gnu_unwind_frame)
#endif
/* A trace of an end that the user asked for (RUST_BACKTRACE): there is none. 5 says that it is over. */
int _Unwind_Backtrace(void);
int _Unwind_Backtrace(void) { return 5; }
