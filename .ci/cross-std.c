/* Debian's libgcc_eh.a is made for glibc 2.35 and newer, and finds unwind tables with _dl_find_object. musl has no such
   function: this is one, for static programs. Only tests unwind; the program itself ends when it panics. */
#define _GNU_SOURCE
#include <link.h>

struct query {
    ElfW(Addr) pc;
    struct dl_find_object *answer;
};

static int look(struct dl_phdr_info *info, size_t size, void *data)
{
    struct query *query = data;
    ElfW(Addr) start = 0, end = 0, tables = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        ElfW(Addr) at = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && query->pc >= at && query->pc - at < part->p_memsz) {
            start = at;
            end = at + part->p_memsz;
        }
        if (part->p_type == DLFO_EH_SEGMENT_TYPE)
            tables = at;
    }
    if (!end || !tables)
        return 0;
    query->answer->dlfo_map_start = (void *)start;
    query->answer->dlfo_map_end = (void *)end;
    query->answer->dlfo_eh_frame = (void *)tables;
    return 1;
}

int _dl_find_object(void *pc, struct dl_find_object *answer)
{
    struct query query = { (ElfW(Addr))pc, answer };
    *answer = (struct dl_find_object){ 0 };
    return dl_iterate_phdr(look, &query) ? 0 : -1;
}
