/* report.c - the line that nl-load prints. See load.h. */
#include "load.h"

#include <math.h>
#include <stdio.h>

#define ITEMS 64

static struct {
    const char *key, *text;
    char number[32];
    char made_key[32];
} items[ITEMS];
static unsigned count;

void report_text(const char *key, const char *value)
{
    if (count < ITEMS) {
        items[count].key = key;
        items[count].text = value;
        count++;
    }
}

void report_number(const char *key, double value, int decimals)
{
    if (count < ITEMS) {
        items[count].key = key;
        /* JSON has no word for what is not a number. */
        snprintf(items[count].number, sizeof(items[count].number), "%.*f", decimals,
                 isfinite(value) ? value : 0.0);
        count++;
    }
}

static void made(const char *prefix, const char *name, double us)
{
    if (count < ITEMS) {
        snprintf(items[count].made_key, sizeof(items[count].made_key), "%s%s_us", prefix, name);
        report_number(items[count].made_key, us, 1);
    }
}

void report_hist(const char *prefix, const hist *h)
{
    static const struct {
        const char *name;
        double q;
    } points[] = {
        {"p50", .5}, {"p75", .75}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"p9999", .9999},
    };
    if (h->count == 0) {
        return;
    }
    made(prefix, "mean", hist_mean(h) / 1e3);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        made(prefix, points[i].name, (double)hist_at(h, points[i].q) / 1e3);
    }
    made(prefix, "max", (double)h->max / 1e3);
}

/* No key or text has a character that JSON would want escaped. */
void report_print(bool json)
{
    const char *between = json ? ", " : " ";
    if (json) {
        putchar('{');
    }
    for (unsigned i = 0; i < count; i++) {
        const char *quote = json && items[i].text ? "\"" : "";
        printf(json ? "%s\"%s\": %s%s%s" : "%s%s=%s%s%s", i ? between : "", items[i].key, quote,
               items[i].text ? items[i].text : items[i].number, quote);
    }
    puts(json ? "}" : "");
}
