/*
 * What an installation costs at least: the pipeline that `make bench` holds thimble against. One thread; decodes with the
 * codec's reference library (zlib, liblzma, libzstd), hashes with SHA-256 (libcrypto), writes blocks of 1 MiB
 * over what is there, and syncs once. Compares nothing, checks nothing else.
 *
 *   reference none|gzip|xz|zstd PACKED TARGET      prints the SHA-256 of what was unpacked
 */
#include <fcntl.h>
#include <lzma.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { IN = 128 * 1024, OUT = 1024 * 1024 };

static uint8_t in[IN], out[OUT];
static size_t filled; /* of `out` */
static int source, target;
static EVP_MD_CTX *sum;

static void check(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

static size_t more(void)
{
    ssize_t n = read(source, in, IN);
    check(n >= 0, "read");
    return (size_t)n;
}

/* Hashes and writes the block; all of it if it is full, or the last. */
static void flush(void)
{
    check(EVP_DigestUpdate(sum, out, filled), "sha256");
    for (size_t at = 0; at < filled;) {
        ssize_t n = write(target, out + at, filled - at);
        check(n > 0, "write");
        at += (size_t)n;
    }
    filled = 0;
}

static void none(void)
{
    ssize_t n;
    while ((n = read(source, out + filled, OUT - filled)) > 0) {
        filled += (size_t)n;
        if (filled == OUT)
            flush();
    }
    check(n == 0, "read");
}

static void gzip(void)
{
    z_stream z = {0};
    check(inflateInit2(&z, 15 + 16) == Z_OK, "zlib");
    for (;;) {
        if (z.avail_in == 0) {
            z.next_in = in;
            if ((z.avail_in = (uInt)more()) == 0)
                break;
        }
        z.next_out = out + filled;
        z.avail_out = (uInt)(OUT - filled);
        int result = inflate(&z, Z_NO_FLUSH);
        check(result == Z_OK || result == Z_STREAM_END, "inflate");
        filled = OUT - z.avail_out;
        if (filled == OUT)
            flush();
        if (result == Z_STREAM_END)
            inflateReset(&z);
    }
    inflateEnd(&z);
}

static void xz(void)
{
    lzma_stream z = LZMA_STREAM_INIT;
    check(lzma_stream_decoder(&z, UINT64_MAX, LZMA_CONCATENATED) == LZMA_OK, "liblzma");
    for (lzma_ret result = LZMA_OK; result != LZMA_STREAM_END;) {
        if (z.avail_in == 0) {
            z.next_in = in;
            z.avail_in = more();
        }
        z.next_out = out + filled;
        z.avail_out = OUT - filled;
        result = lzma_code(&z, z.avail_in == 0 ? LZMA_FINISH : LZMA_RUN);
        check(result == LZMA_OK || result == LZMA_STREAM_END, "lzma_code");
        filled = OUT - z.avail_out;
        if (filled == OUT)
            flush();
    }
    lzma_end(&z);
}

static void zstd(void)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    check(z != NULL, "libzstd");
    for (size_t n; (n = more()) > 0;) {
        ZSTD_inBuffer input = {in, n, 0};
        int full = 0;
        while (input.pos < input.size || full) {
            ZSTD_outBuffer output = {out, OUT, filled};
            check(!ZSTD_isError(ZSTD_decompressStream(z, &output, &input)), "ZSTD_decompressStream");
            filled = output.pos;
            if ((full = filled == OUT))
                flush();
        }
    }
    ZSTD_freeDCtx(z);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } codecs[] = {
        {"none", none}, {"gzip", gzip}, {"xz", xz}, {"zstd", zstd}};
    void (*run)(void) = NULL;
    for (size_t i = 0; argc == 4 && i < 4; i++)
        if (!strcmp(argv[1], codecs[i].name))
            run = codecs[i].run;
    if (!run) {
        fprintf(stderr, "usage: reference none|gzip|xz|zstd PACKED TARGET\n");
        return 2;
    }
    check((source = open(argv[2], O_RDONLY)) >= 0, argv[2]);
    check((target = open(argv[3], O_WRONLY)) >= 0, argv[3]);
    check((sum = EVP_MD_CTX_new()) != NULL && EVP_DigestInit_ex(sum, EVP_sha256(), NULL), "sha256");
    run();
    flush();
    check(fsync(target) == 0, "fsync");
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length;
    check(EVP_DigestFinal_ex(sum, digest, &length), "sha256");
    for (unsigned i = 0; i < length; i++)
        printf("%02x", digest[i]);
    putchar('\n');
    return 0;
}
