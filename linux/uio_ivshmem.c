// SPDX-License-Identifier: GPL-2.0-only
/*
 * UIO driver for ivshmem-v2 devices (PCI 110a:4106).
 *
 * It offers the user-space interface that kernels of Siemens and NXP have under the same name: see
 * README.md beside this file. Written for Cellmate from a description of that interface and from the
 * ivshmem-v2 device specification of the Jailhouse project, whose section titles are in brackets.
 */
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uio_driver.h>
#include <linux/version.h>

#define DRV_NAME		"uio_ivshmem"

#define IVSHMEM_DEVICE_ID	0x4106
#define IVSHMEM_CLASS		0xff0000	/* the protocol is in the low 16 bits */

/* Vendor-specific capability [Vendor Specific Capability (ID 09h)] */
#define CAP_LENGTH		0x02
#define CAP_PRIVATE_CONTROL	0x03
#define CAP_STATE_SIZE		0x04
#define CAP_RW_SIZE		0x08
#define CAP_OUTPUT_SIZE		0x10
#define CAP_BASE_ADDRESS	0x18
#define CAP_LENGTH_SHORT	0x18
#define CAP_LENGTH_ADDRESS	0x20
#define PRIVATE_ONE_SHOT	0x01

/* Registers [Register Region] */
#define REG_ID			0x00
#define REG_MAX_PEERS		0x04
#define REG_INT_CONTROL		0x08
#define REG_STATE		0x10
#define REG_END			0x14

#define BAR_REGISTERS		0
#define BAR_SECTIONS		2
#define MAX_PEERS		65536
#define MAX_VECTORS		2048

static unsigned short protocols[16];
static int protocols_given;
module_param_array(protocols, ushort, &protocols_given, 0444);
MODULE_PARM_DESC(protocols, "protocols to serve besides 0, like 0xc002,0xc003 for virtio back-ends");

/* A device node that is open; one device can have several, in several file systems. */
struct ivshmem_node {
	struct list_head list;
	struct inode *inode;
	unsigned int opens;
};

struct ivshmem {
	struct uio_info info;
	struct pci_dev *pdev;
	void __iomem *registers;
	int capability;
	u32 id;
	u32 max_peers;
	phys_addr_t base;
	u64 state_size;
	u64 rw_size;
	u64 output_size;
	u64 total;
	bool in_bar;
	int vectors;
	/* Changed by the open and release hooks, which the uio core runs one at a time. */
	struct list_head nodes;
	/* A bit for each map that must not be written. */
	unsigned long read_only;
};

/* The device may be gone already: its registers are only touched while it answers. */
static void ivshmem_quiesce(struct ivshmem *ivs)
{
	if (pci_channel_offline(ivs->pdev))
		return;
	/* No interrupt from here on, then the peers are told [State Register]. */
	writel(0, ivs->registers + REG_INT_CONTROL);
	writel(0, ivs->registers + REG_STATE);
}

/*
 * Nothing is acknowledged: one-shot mode has cleared bit 0 of Interrupt Control before this runs
 * [Interrupt Control Register]. What happened is in shared memory, so a count is all there is to say.
 */
static irqreturn_t ivshmem_message(int irq, void *data)
{
	struct ivshmem *ivs = data;

	uio_event_notify(&ivs->info);
	return IRQ_HANDLED;
}

/*
 * The line may be shared and the device has no status bit. A device that can still interrupt did not
 * raise this one, unless user space was quick to re-arm: hence an event in any case, and "not ours"
 * for the kernel's watch over stuck lines only. The read is also what ends the interrupt of a
 * device that is passed through by VFIO.
 */
static irqreturn_t ivshmem_line(int irq, void *data)
{
	struct ivshmem *ivs = data;
	u32 armed = readl(ivs->registers + REG_INT_CONTROL) & 1;

	uio_event_notify(&ivs->info);
	return armed ? IRQ_NONE : IRQ_HANDLED;
}

static int ivshmem_open(struct uio_info *info, struct inode *inode)
{
	struct ivshmem *ivs = info->priv;
	struct ivshmem_node *node;

	list_for_each_entry(node, &ivs->nodes, list) {
		if (node->inode == inode) {
			node->opens++;
			return 0;
		}
	}
	node = kzalloc(sizeof(*node), GFP_KERNEL);
	if (!node)
		return -ENOMEM;
	ihold(inode);
	node->inode = inode;
	node->opens = 1;
	list_add(&node->list, &ivs->nodes);
	return 0;
}

static void ivshmem_drop_node(struct ivshmem_node *node)
{
	list_del(&node->list);
	iput(node->inode);
	kfree(node);
}

/*
 * Runs when nothing refers to an open file any more: no descriptor of any process and no mapping.
 * The state is reset with the last one, so that a tool which looks does not end a link.
 */
static int ivshmem_release(struct uio_info *info, struct inode *inode)
{
	struct ivshmem *ivs = info->priv;
	struct ivshmem_node *node;

	list_for_each_entry(node, &ivs->nodes, list) {
		if (node->inode == inode) {
			if (--node->opens == 0)
				ivshmem_drop_node(node);
			break;
		}
	}
	if (list_empty(&ivs->nodes))
		ivshmem_quiesce(ivs);
	return 0;
}

/*
 * The core has checked the map's number and the size. Sections are memory and are mapped like memory,
 * for registers each access must reach the device [Memory attributes].
 */
#ifdef UIO_MMAP_PREPARE
static int ivshmem_mmap(struct uio_info *info, struct vm_area_desc *desc)
{
	struct ivshmem *ivs = info->priv;
	struct uio_mem *mem = &info->mem[desc->pgoff];

	if (test_bit(desc->pgoff, &ivs->read_only)) {
		if (vma_desc_test(desc, VMA_WRITE_BIT))
			return -EINVAL;
		vma_desc_clear_flags(desc, VMA_MAYWRITE_BIT);
	}
	if (mem->memtype == UIO_MEM_PHYS)
		desc->page_prot = pgprot_noncached(desc->page_prot);
	mmap_action_remap_full(desc, PHYS_PFN(mem->addr));
	return 0;
}
#else
static int ivshmem_mmap(struct uio_info *info, struct vm_area_struct *vma)
{
	struct ivshmem *ivs = info->priv;
	struct uio_mem *mem = &info->mem[vma->vm_pgoff];

	if (test_bit(vma->vm_pgoff, &ivs->read_only)) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
		vm_flags_clear(vma, VM_MAYWRITE);
#else
		vma->vm_flags &= ~VM_MAYWRITE;
#endif
	}
	if (mem->memtype == UIO_MEM_PHYS)
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	return remap_pfn_range(vma, vma->vm_start, PHYS_PFN(mem->addr),
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}
#endif

/* Walks the list: the capability has no fixed place, and others of the same kind may be there. */
static int ivshmem_find_capability(struct pci_dev *pdev, u8 *length)
{
	int position = pci_find_capability(pdev, PCI_CAP_ID_VNDR);

	while (position) {
		pci_read_config_byte(pdev, position + CAP_LENGTH, length);
		if (*length >= CAP_LENGTH_SHORT)
			return position;
		position = pci_find_next_capability(pdev, position, PCI_CAP_ID_VNDR);
	}
	return 0;
}

static u64 ivshmem_read64(struct pci_dev *pdev, int offset)
{
	u32 low, high;

	pci_read_config_dword(pdev, offset, &low);
	pci_read_config_dword(pdev, offset + 4, &high);
	return ((u64)high << 32) | low;
}

/* Reads and checks the sections' sizes [Shared Memory Regions]. */
static int ivshmem_read_sizes(struct ivshmem *ivs)
{
	struct pci_dev *pdev = ivs->pdev;
	u64 outputs;
	u32 size;

	pci_read_config_dword(pdev, ivs->capability + CAP_STATE_SIZE, &size);
	ivs->state_size = size;
	ivs->rw_size = ivshmem_read64(pdev, ivs->capability + CAP_RW_SIZE);
	ivs->output_size = ivshmem_read64(pdev, ivs->capability + CAP_OUTPUT_SIZE);
	if (ivs->state_size < 4ULL * ivs->max_peers ||
	    !PAGE_ALIGNED(ivs->state_size) || !PAGE_ALIGNED(ivs->rw_size) ||
	    !PAGE_ALIGNED(ivs->output_size)) {
		dev_err(&pdev->dev,
			"sections of %llu, %llu and %llu bytes for %u peers do not consist of pages of %lu\n",
			ivs->state_size, ivs->rw_size, ivs->output_size, ivs->max_peers, PAGE_SIZE);
		return -EINVAL;
	}
	if (check_mul_overflow(ivs->output_size, (u64)ivs->max_peers, &outputs) ||
	    check_add_overflow(ivs->state_size, ivs->rw_size, &ivs->total) ||
	    check_add_overflow(ivs->total, outputs, &ivs->total)) {
		dev_err(&pdev->dev, "the sections are larger than any memory\n");
		return -EINVAL;
	}
	return 0;
}

/* Finds and claims the sections: in BAR 2, or at the capability's address if there is none. */
static int ivshmem_claim_sections(struct ivshmem *ivs, u8 length)
{
	struct pci_dev *pdev = ivs->pdev;
	u64 address, end;
	int err;

	ivs->in_bar = pci_resource_len(pdev, BAR_SECTIONS) != 0;
	if (ivs->in_bar) {
		if (!(pci_resource_flags(pdev, BAR_SECTIONS) & IORESOURCE_MEM) ||
		    pci_resource_len(pdev, BAR_SECTIONS) < ivs->total) {
			dev_err(&pdev->dev, "BAR 2 %pR is too small for sections of %llu bytes\n",
				&pdev->resource[BAR_SECTIONS], ivs->total);
			return -EINVAL;
		}
		ivs->base = pci_resource_start(pdev, BAR_SECTIONS);
		err = pci_request_region(pdev, BAR_SECTIONS, DRV_NAME);
	} else {
		if (length < CAP_LENGTH_ADDRESS) {
			dev_err(&pdev->dev, "neither BAR 2 nor a base address for the sections\n");
			return -ENODEV;
		}
		address = ivshmem_read64(pdev, ivs->capability + CAP_BASE_ADDRESS);
		ivs->base = address;
		if (ivs->base != address || check_add_overflow(address, ivs->total, &end)) {
			dev_err(&pdev->dev, "sections at %#llx: no such address\n", address);
			return -EINVAL;
		}
		/* Reserved memory is not busy; memory that the kernel uses is. */
		err = request_mem_region(ivs->base, ivs->total, DRV_NAME) ? 0 : -EBUSY;
	}
	if (err) {
		dev_err(&pdev->dev, "sections at %pa, %#llx bytes: in use\n", &ivs->base, ivs->total);
		return err;
	}
	if (!PAGE_ALIGNED(ivs->base)) {
		dev_err(&pdev->dev, "sections at %pa do not begin at a page\n", &ivs->base);
		if (ivs->in_bar)
			pci_release_region(pdev, BAR_SECTIONS);
		else
			release_mem_region(ivs->base, ivs->total);
		return -EINVAL;
	}
	return 0;
}

static void ivshmem_release_sections(struct ivshmem *ivs)
{
	if (ivs->in_bar)
		pci_release_region(ivs->pdev, BAR_SECTIONS);
	else
		release_mem_region(ivs->base, ivs->total);
}

static int ivshmem_claim_registers(struct ivshmem *ivs)
{
	struct pci_dev *pdev = ivs->pdev;
	resource_size_t size = pci_resource_len(pdev, BAR_REGISTERS);
	int err;

	if (!(pci_resource_flags(pdev, BAR_REGISTERS) & IORESOURCE_MEM) || size < REG_END) {
		dev_err(&pdev->dev, "BAR 0 %pR holds no registers in memory\n",
			&pdev->resource[BAR_REGISTERS]);
		return -ENODEV;
	}
	if (!PAGE_ALIGNED(pci_resource_start(pdev, BAR_REGISTERS)) || !PAGE_ALIGNED(size)) {
		dev_err(&pdev->dev, "BAR 0 %pR shares a page of %lu bytes with others\n",
			&pdev->resource[BAR_REGISTERS], PAGE_SIZE);
		return -EINVAL;
	}
	err = pci_request_region(pdev, BAR_REGISTERS, DRV_NAME);
	if (err)
		return err;
	ivs->registers = pci_iomap(pdev, BAR_REGISTERS, 0);
	if (!ivs->registers) {
		pci_release_region(pdev, BAR_REGISTERS);
		return -ENOMEM;
	}
	ivs->id = readl(ivs->registers + REG_ID);
	ivs->max_peers = readl(ivs->registers + REG_MAX_PEERS);
	if (ivs->max_peers < 2 || ivs->max_peers > MAX_PEERS || ivs->id >= ivs->max_peers) {
		dev_err(&pdev->dev, "peer %u of %u: no such link\n", ivs->id, ivs->max_peers);
		pci_iounmap(pdev, ivs->registers);
		pci_release_region(pdev, BAR_REGISTERS);
		return -ENODEV;
	}
	return 0;
}

static void ivshmem_release_registers(struct ivshmem *ivs)
{
	pci_iounmap(ivs->pdev, ivs->registers);
	pci_release_region(ivs->pdev, BAR_REGISTERS);
}

/* Maps have no gaps: a section of size 0 has none, so user space goes by the names. */
static void ivshmem_add_map(struct ivshmem *ivs, const char *name, phys_addr_t address, u64 size,
			    int type, bool read_only)
{
	int index = 0;

	if (!size)
		return;
	while (ivs->info.mem[index].size)
		index++;
	ivs->info.mem[index].name = name;
	ivs->info.mem[index].addr = address;
	ivs->info.mem[index].size = size;
	ivs->info.mem[index].memtype = type;
	if (read_only)
		__set_bit(index, &ivs->read_only);
}

static void ivshmem_describe(struct ivshmem *ivs)
{
	phys_addr_t rw = ivs->base + ivs->state_size;
	phys_addr_t outputs = rw + ivs->rw_size;

	ivshmem_add_map(ivs, "registers", pci_resource_start(ivs->pdev, BAR_REGISTERS),
			pci_resource_len(ivs->pdev, BAR_REGISTERS), UIO_MEM_PHYS, false);
	ivshmem_add_map(ivs, "state_table", ivs->base, ivs->state_size, UIO_MEM_IOVA, true);
	ivshmem_add_map(ivs, "rw_section", rw, ivs->rw_size, UIO_MEM_IOVA, false);
	ivshmem_add_map(ivs, "input_sections", outputs, ivs->output_size * ivs->max_peers,
			UIO_MEM_IOVA, true);
	ivshmem_add_map(ivs, "output_section", outputs + ivs->output_size * ivs->id,
			ivs->output_size, UIO_MEM_IOVA, false);
	ivs->info.version = "1";
	ivs->info.priv = ivs;
	ivs->info.open = ivshmem_open;
	ivs->info.release = ivshmem_release;
#ifdef UIO_MMAP_PREPARE
	ivs->info.mmap_prepare = ivshmem_mmap;
#else
	ivs->info.mmap = ivshmem_mmap;
#endif
}

static void ivshmem_free_irqs(struct ivshmem *ivs, int requested)
{
	while (requested-- > 0)
		pci_free_irq(ivs->pdev, requested, ivs);
}

static int ivshmem_request_irqs(struct ivshmem *ivs)
{
	struct pci_dev *pdev = ivs->pdev;
	bool line = !pdev->msix_enabled && !pdev->msi_enabled;
	int vector, err;

	for (vector = 0; vector < ivs->vectors; vector++) {
		err = pci_request_irq(pdev, vector, line ? ivshmem_line : ivshmem_message, NULL,
				      ivs, DRV_NAME "[%s]-%d", pci_name(pdev), vector);
		if (err) {
			dev_err(&pdev->dev, "interrupt %d of %d: error %d\n", vector, ivs->vectors,
				err);
			ivshmem_free_irqs(ivs, vector);
			return err;
		}
	}
	return 0;
}

/* One-shot mode has to be there before the first interrupt: nothing else ends one on a line. */
static int ivshmem_set_one_shot(struct ivshmem *ivs)
{
	int offset = ivs->capability + CAP_PRIVATE_CONTROL;
	u8 control = 0;

	writel(0, ivs->registers + REG_INT_CONTROL);
	pci_write_config_byte(ivs->pdev, offset, PRIVATE_ONE_SHOT);
	pci_read_config_byte(ivs->pdev, offset, &control);
	if (!(control & PRIVATE_ONE_SHOT)) {
		dev_err(&ivs->pdev->dev, "the device does not take one-shot interrupt mode\n");
		return -EIO;
	}
	return 0;
}

/* What can be undone by the core and by ivshmem_release_*() is in place; the rest of probe. */
static int ivshmem_start(struct ivshmem *ivs)
{
	struct pci_dev *pdev = ivs->pdev;
	int err;

	err = ivshmem_set_one_shot(ivs);
	if (err)
		return err;
	ivs->vectors = pci_alloc_irq_vectors(pdev, 1, MAX_VECTORS, PCI_IRQ_ALL_TYPES);
	if (ivs->vectors < 0) {
		dev_warn(&pdev->dev, "no interrupt (%d): reading the device will fail\n",
			 ivs->vectors);
		ivs->vectors = 0;
	}
	ivs->info.irq = ivs->vectors ? UIO_IRQ_CUSTOM : UIO_IRQ_NONE;
	pci_set_master(pdev);

	err = uio_register_device(&pdev->dev, &ivs->info);
	if (err)
		goto err_vectors;
	err = ivshmem_request_irqs(ivs);
	if (err)
		goto err_uio;
	/* Whoever opened the node since it appeared may have missed an interrupt. */
	if (ivs->vectors && !list_empty(&ivs->nodes))
		uio_event_notify(&ivs->info);
	return 0;

err_uio:
	uio_unregister_device(&ivs->info);
err_vectors:
	pci_clear_master(pdev);
	if (ivs->vectors)
		pci_free_irq_vectors(pdev);
	return err;
}

/* Takes the device from those who still hold it: their next access to a mapping is SIGBUS. */
static void ivshmem_evict(struct ivshmem *ivs)
{
	struct ivshmem_node *node, *next;

	list_for_each_entry_safe(node, next, &ivs->nodes, list) {
		unmap_mapping_range(node->inode->i_mapping, 0, 0, 1);
		ivshmem_drop_node(node);
	}
}

static int ivshmem_probe(struct pci_dev *pdev, const struct pci_device_id *unused)
{
	struct ivshmem *ivs;
	u8 length = 0;
	int err;

	ivs = kzalloc(sizeof(*ivs), GFP_KERNEL);
	if (!ivs)
		return -ENOMEM;
	ivs->pdev = pdev;
	INIT_LIST_HEAD(&ivs->nodes);
	ivs->info.name = kasprintf(GFP_KERNEL, DRV_NAME "[%s]", pci_name(pdev));
	if (!ivs->info.name) {
		err = -ENOMEM;
		goto err_free;
	}
	err = pci_enable_device(pdev);
	if (err)
		goto err_free;
	ivs->capability = ivshmem_find_capability(pdev, &length);
	if (!ivs->capability) {
		dev_err(&pdev->dev, "no ivshmem capability: not version 2 of the device\n");
		err = -ENODEV;
		goto err_disable;
	}
	err = ivshmem_claim_registers(ivs);
	if (err)
		goto err_disable;
	err = ivshmem_read_sizes(ivs);
	if (err)
		goto err_registers;
	err = ivshmem_claim_sections(ivs, length);
	if (err)
		goto err_registers;
	ivshmem_describe(ivs);
	err = ivshmem_start(ivs);
	if (err)
		goto err_sections;
	pci_set_drvdata(pdev, ivs);
	dev_info(&pdev->dev, "peer %u of %u, protocol %04x, %d interrupt vectors\n", ivs->id,
		 ivs->max_peers, pdev->class & 0xffff, ivs->vectors);
	return 0;

err_sections:
	ivshmem_evict(ivs);
	ivshmem_release_sections(ivs);
err_registers:
	ivshmem_release_registers(ivs);
err_disable:
	pci_disable_device(pdev);
err_free:
	kfree(ivs->info.name);
	kfree(ivs);
	return err;
}

/*
 * Interrupts end first, because they use the uio device. After it is unregistered no hook runs and
 * no map comes into being; descriptors that are still open answer with errors.
 */
static void ivshmem_remove(struct pci_dev *pdev)
{
	struct ivshmem *ivs = pci_get_drvdata(pdev);

	ivshmem_free_irqs(ivs, ivs->vectors);
	uio_unregister_device(&ivs->info);
	ivshmem_evict(ivs);
	ivshmem_quiesce(ivs);
	pci_write_config_byte(pdev, ivs->capability + CAP_PRIVATE_CONTROL, 0);
	if (ivs->vectors)
		pci_free_irq_vectors(pdev);
	ivshmem_release_sections(ivs);
	ivshmem_release_registers(ivs);
	pci_disable_device(pdev);
	kfree(ivs->info.name);
	kfree(ivs);
}

/* Other protocols have drivers of their own; see the parameter, new_id and driver_override. */
static const struct pci_device_id ivshmem_ids[] = {
	{
		.vendor = PCI_VENDOR_ID_SIEMENS,
		.device = IVSHMEM_DEVICE_ID,
		.subvendor = PCI_ANY_ID,
		.subdevice = PCI_ANY_ID,
		.class = IVSHMEM_CLASS,
		.class_mask = 0xffffff,
	},
	{ }
};
MODULE_DEVICE_TABLE(pci, ivshmem_ids);

static struct pci_driver ivshmem_driver = {
	.name = DRV_NAME,
	.id_table = ivshmem_ids,
	.probe = ivshmem_probe,
	.remove = ivshmem_remove,
};

static int __init ivshmem_init(void)
{
	int err, index;

	err = pci_register_driver(&ivshmem_driver);
	if (err)
		return err;
	for (index = 0; index < protocols_given; index++) {
		err = pci_add_dynid(&ivshmem_driver, PCI_VENDOR_ID_SIEMENS, IVSHMEM_DEVICE_ID,
				    PCI_ANY_ID, PCI_ANY_ID, IVSHMEM_CLASS | protocols[index],
				    0xffffff, 0);
		if (err) {
			pci_unregister_driver(&ivshmem_driver);
			return err;
		}
	}
	return 0;
}
module_init(ivshmem_init);

static void __exit ivshmem_exit(void)
{
	pci_unregister_driver(&ivshmem_driver);
}
module_exit(ivshmem_exit);

MODULE_AUTHOR("The Cellmate authors");
MODULE_DESCRIPTION("UIO driver for ivshmem-v2 devices");
MODULE_LICENSE("GPL");
